// node test/node.mjs SITE NATIVE [--bench MODEL]
//
// The modules in the folder SITE, as build.sh makes it (simd128, and plain if it is there): their sizes; files that are none; memory; and
// that logits and texts are to the last bit what the native program wrote into the folder NATIVE:
//
//   NAME.gguf         a model
//   NAME.f32          `teff logits` of the tokens below
//   NAME.txt          `teff run` of the prompt below, where there is one
//
// and that the small models' hashes are those in examples/bare_metal/logits.fnv, which every machine has.
import { existsSync, openAsBlob, readFileSync, readdirSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { Teff, moduleName, simd128 } from "../teff.js";

const [site, native, option, model] = process.argv.slice(2);
const TOKENS = [1, 2, 3, 5, 8, 13, 21, 34, 55, 2, 1, 0, 7, 7, 7, 9, 10, 11];
const PROMPT = "Once upon a time";
/** Bytes of a module as it is served, and of what is unpacked. */
const BUDGET = { packed: 270_000, plain: 725_000 };

let failures = 0;
function check(ok, what) {
    if (!ok) console.log(`FAILED: ${what}`);
    failures += ok ? 0 : 1;
}

async function fails(what, text, f) {
    try {
        await f();
        check(false, `${what}: no error`);
    } catch (e) {
        check(text.test(e.message), `${what}: ${e.message}`);
    }
}

const file = (name) => `${site}/teff-${name}.wasm.gz`;
const built = ["plain", "simd128"].filter((name) => name === "simd128" || existsSync(file(name)));
const modules = built.map((name) => {
    const bytes = readFileSync(file(name));
    return { name, bytes: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length) };
});

async function opened(module, blob, context) {
    const teff = await Teff.instance(module.bytes);
    const info = await teff.open(blob);
    if (context) teff.begin(context);
    return { teff, info };
}

function sizes({ name, bytes }) {
    const plain = gunzipSync(bytes);
    console.log(`-- ${name}: ${bytes.byteLength} bytes packed, ${plain.length} unpacked`);
    check(bytes.byteLength <= BUDGET.packed, `${name} has more than ${BUDGET.packed} bytes packed`);
    check(plain.length <= BUDGET.plain, `${name} has more than ${BUDGET.plain} bytes unpacked`);
    check(WebAssembly.Module.imports(new WebAssembly.Module(plain)).length === 0, `${name} imports`);
}

async function logits(module, name) {
    const { teff, info } = await opened(module, await openAsBlob(`${native}/${name}.gguf`), 64);
    const want = new Uint32Array(readFileSync(`${native}/${name}.f32`).buffer.slice(0));
    const same = (logits, t) => {
        const bits = new Uint32Array(logits.buffer);
        return bits.every((b, i) => b === want[t * bits.length + i]);
    };
    let equal = TOKENS.every((token, t) => same(teff.logits([token]), t));
    teff.begin(64);
    equal &&= same(teff.logits(TOKENS), TOKENS.length - 1); // in steps of several tokens
    check(equal, `${module.name}, ${name}: other logits than native`);
    check(!info.error || !name.startsWith("stories"), `${name}: ${info.error}`);
    return want.length;
}

/** FNV-1a of 64 bits over the logits after every token, as examples/bare_metal/logits.fnv has it. */
async function hashes(module) {
    const folder = new URL("../../bare_metal/", import.meta.url);
    const lines = readFileSync(new URL("logits.fnv", folder), "utf8").split("\n").map((l) => l.split(" "));
    let tokens = []; // those of the models that follow
    const all = [];
    for (const [model, cache, want] of lines) {
        if (model === "tokens") tokens = cache.split(",").map(Number);
        if (cache !== "f32") continue;
        all.push(want);
        const { teff } = await opened(module, await openAsBlob(new URL(model, folder)), tokens.length);
        let hash = 0xcbf29ce484222325n;
        for (const token of tokens) {
            for (const byte of new Uint8Array(teff.logits([token]).buffer)) {
                hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
            }
        }
        const got = hash.toString(16).padStart(16, "0");
        check(got === want, `${module.name}, ${model}: hash ${got}, not ${want}`);
    }
    return all;
}

async function text(module, name) {
    const { teff } = await opened(module, await openAsBlob(`${native}/${name}.gguf`), 256);
    teff.prompt(PROMPT, { most: 120, seed: 7 });
    const first = teff.memory;
    let [text, step] = ["", { progress: "more" }];
    for (; step.progress === "more"; text += step.text) step = teff.step();
    const want = readFileSync(`${native}/${name}.txt`, "utf8");
    check(want.trim() === text.trim(), `${module.name}, ${name}: another text: ${text}\n${want}`);
    check(teff.memory === first, `${module.name}: memory grew from ${first} to ${teff.memory}`);
    check(text.length > 200, `${module.name}, ${name}: only ${text}`);
}

async function errors(module, name) {
    const file = readFileSync(`${native}/${name}.gguf`);
    const open = (bytes) => opened(module, new Blob([bytes]));
    await fails("nothing", /complete/, () => open(new Uint8Array(0)));
    await fails("garbage", /GGUF/i, () => open(Uint8Array.from({ length: 5000 }, (_, i) => i * 37)));
    for (const part of [3, 20, 500, 20_000, file.length / 2, file.length - 1]) {
        await fails(`${part} bytes of the file`, /\w+ \w+/, () => open(file.subarray(0, part)));
    }
    // Damaged headers: an error or a model, never a trap.
    let [seed, refused] = [1, 0];
    for (let i = 0; i < 40; i++) {
        const damaged = Uint8Array.from(file);
        for (let n = 0; n < 3; n++) {
            seed = Math.imul(seed, 1664525) + 1013904223 >>> 0;
            damaged[(seed >>> 8) % 2000] ^= 1 << (seed & 7);
        }
        try {
            (await open(damaged)).teff.begin(32);
        } catch (e) {
            refused += 1;
            check(!e.message.includes("the module failed"), `damaged file ${i}: ${e.message}`);
        }
    }
    check(refused > 0, "no damaged file was refused");
    const { teff, info } = await opened(module, new Blob([file]));
    await fails("a step before all", /begin/, () => teff.step());
    await fails("no context", /context/, () => teff.begin(0));
    await fails("more than memory", /\w+ \w+/, () => teff.begin(2 ** 31));
    const needs = teff.needs(100);
    await fails("a small budget", new RegExp(`${needs} bytes`), () => teff.begin(100, needs - 1));
    const before = teff.memory;
    teff.begin(100, needs);
    check(teff.memory - before <= needs + 65536 * 2, `took ${teff.memory - before}, said ${needs}`);
    await fails("a step without a prompt", /prompt/, () => teff.step());
    await fails("a long prompt", /context is full/, () => teff.prompt("word ".repeat(5000)));
    await fails("a temperature below 0", /temperature/, () => teff.prompt("a", { temperature: -1 }));
    await fails("a token that is none", /vocabulary/, () => teff.logits([1e9]));
    await fails("a second model", /another instance/, () => teff.open(new Blob([file])));
    teff.prompt(PROMPT, { most: 1 });
    check(teff.step().progress === "more" && info.positions !== "", "it doesn't go on after errors");
}

async function bench(path) {
    for (const module of modules) {
        const { teff } = await opened(module, await openAsBlob(path), 256);
        const rates = [];
        for (let round = 0; round < 5; round++) {
            teff.prompt(PROMPT, { most: 100, seed: round });
            teff.step();
            const begin = performance.now();
            let n = 0;
            while (teff.step().progress === "more") n += 1;
            rates.push(n / (performance.now() - begin) * 1000);
        }
        rates.sort((a, b) => a - b);
        console.log(`${module.name}: ${rates.map((r) => r.toFixed(0)).join(" ")} tokens/s`);
    }
}

if (option === "--bench") {
    await bench(model);
    process.exit(0);
}
check(simd128 && moduleName === "teff-simd128.wasm.gz", "node has simd128, but it was not found");
const names = readdirSync(native).filter((n) => n.endsWith(".gguf")).map((n) => n.slice(0, -5));
for (const module of modules) {
    sizes(module);
    let compared = 0;
    for (const name of names) compared += await logits(module, name);
    for (const name of names.filter((n) => n.startsWith("stories"))) await text(module, name);
    await errors(module, "stories-260k");
    const all = await hashes(module);
    check(all.length === 3, "logits.fnv has no hashes");
    console.log(`-- ${module.name}: ${names.length} models, ${compared} logits, hashes ${all.join(" ")}`);
}
process.exit(failures ? 1 : 0);
