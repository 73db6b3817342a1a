// Teff's wasm module, for browsers and node: one instance holds one model.

/** Whether this engine has simd128: a function that makes a vector is valid. */
export const simd128 = WebAssembly.validate(new Uint8Array([
    0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 8, 1, 6, 0, 65, 0, 253, 15, 11,
]));

/** The packed module that suits this engine. */
export const moduleName = `teff-${simd128 ? "simd128" : "plain"}.wasm.gz`;

/** How a step went; the numbers are the module's. */
const PROGRESS = ["", "more", "end", "length", "full"];

export class Teff {
    /** An instance of the module in these bytes, packed by gzip or not. */
    static async instance(bytes) {
        const packed = new Uint8Array(bytes, 0, 1)[0] === 0x1f;
        const stream = packed && new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
        const plain = packed ? await new Response(stream).arrayBuffer() : bytes;
        return new Teff((await WebAssembly.instantiate(plain, {})).instance.exports);
    }

    constructor(exports) {
        this.exports = exports;
    }

    /** Calls an export; what it gives where it fails is an error with the module's text. */
    call(name, failed, ...args) {
        let result;
        try {
            result = this.exports[name](...args);
        } catch (e) {
            throw new Error(`the module failed (${e.message}): load the model again`);
        }
        if (failed(result)) throw new Error(this.text());
        return result;
    }

    text() {
        const { memory, text, text_len } = this.exports;
        return new TextDecoder().decode(new Uint8Array(memory.buffer, text() >>> 0, text_len() >>> 0));
    }

    /** Room for so many bytes, to be filled at once: memory that grows takes the view away. */
    buffer(length) {
        const at = this.call("buffer", (at) => at === 0, length) >>> 0;
        return new Uint8Array(this.exports.memory.buffer, at, length);
    }

    /** Opens a GGUF file (a Blob), which is streamed into the module's memory; its description. */
    async open(blob) {
        if (blob.size >= 2 ** 31) throw new Error("a file of 2 GiB or more doesn't fit into 32 bits");
        const room = this.buffer(blob.size);
        let at = 0;
        for (const reader = blob.stream().getReader(); ;) {
            const { done, value } = await reader.read();
            if (done) break;
            room.set(value, at);
            at += value.length;
        }
        this.call("open", (ok) => !ok);
        return Object.fromEntries(this.text().split("\n").map((line) => line.split(/=(.*)/s)));
    }

    /** Bytes that a text of so many positions takes. */
    needs(context) {
        return this.call("needs", (bytes) => bytes < 0, context);
    }

    /** Takes them, if they are no more than `budget`. */
    begin(context, budget = 2 ** 32 - 1) {
        this.call("begin", (ok) => !ok, context, budget);
    }

    /** Starts a text; gives the prompt's tokens. */
    prompt(text, { most = 200, temperature = 0.8, topK = 40, topP = 0.95, minP = 0.05, penalty = 1, seed = 0 } = {}) {
        const bytes = new TextEncoder().encode(text);
        this.buffer(bytes.length).set(bytes);
        return this.call("prompt", (n) => !n, most, temperature, topK, topP, minP, penalty, seed);
    }

    /** One step: text that is new (perhaps none), and `more`, or why the text ended. */
    step() {
        const progress = PROGRESS[this.call("step", (p) => !p)];
        return { text: this.text(), progress };
    }

    /** Adds tokens to the text; the last one's logits. */
    logits(tokens) {
        this.buffer(4 * tokens.length).set(new Uint8Array(new Uint32Array(tokens).buffer));
        const at = this.call("eval", (at) => !at) >>> 0;
        const length = this.exports.vocabulary() >>> 0;
        return new Float32Array(this.exports.memory.buffer, at, length).slice();
    }

    /** Bytes of memory that the instance has. */
    get memory() {
        return this.exports.memory.buffer.byteLength;
    }
}
