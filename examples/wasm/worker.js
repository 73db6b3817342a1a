// The work, beside the page: loads models, writes texts, and listens between the steps.
import { Teff, moduleName } from "./teff.js";

/** How long it works before it listens and tells, in milliseconds. */
const SLICE = 16;

let packed; // the module, fetched once
let teff; // the instance with the model
let stopped = false;
let queue = Promise.resolve(); // one request after another

/** Lets messages in, such as a stop. */
const listen = () => new Promise((done) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
        port1.close();
        done();
    };
    port2.postMessage(0);
});

async function fetched(url) {
    const response = await fetch(url);
    if (!response.ok) throw new Error(`${url}: the server says ${response.status}`);
    return response;
}

/** A model, from the page's server or from the user's disk, and memory for a text. */
async function open({ source, context }) {
    teff = undefined; // its memory goes with it
    packed ??= await (await fetched(moduleName)).arrayBuffer();
    const blob = typeof source === "string" ? await (await fetched(source)).blob() : source;
    const next = await Teff.instance(packed);
    const info = await next.open(blob);
    if (info.error) throw new Error(info.error);
    info.positions = Math.min(context, Number(info.context));
    const text = next.needs(info.positions);
    postMessage({ kind: "needs", file: blob.size, tables: Number(info.memory), text });
    next.begin(info.positions);
    teff = next;
    postMessage({ kind: "ready", info, memory: teff.memory });
}

async function generate({ prompt, options }) {
    if (!teff) throw new Error("choose a model first");
    const begin = performance.now();
    const read = teff.prompt(prompt, options);
    let [tokens, first, told, text] = [0, 0, begin, ""];
    for (;;) {
        const step = teff.step();
        const now = performance.now();
        text += step.text;
        if (step.progress === "more") {
            if (step.text !== "" && first === 0) first = now;
            tokens += first === 0 ? 0 : 1;
        }
        const progress = stopped ? "stopped" : step.progress;
        if (progress !== "more" || now - told >= SLICE) {
            const rate = tokens > 1 ? (tokens - 1) / ((now - first) / 1000) : 0;
            postMessage({ kind: "text", text, progress, read, tokens, rate, memory: teff.memory });
            [text, told] = ["", now];
            if (progress !== "more") return;
            await listen();
        }
    }
}

onmessage = ({ data }) => {
    if (data.kind === "stop") {
        stopped = true;
        return;
    }
    const work = { open, generate }[data.kind];
    queue = queue.then(async () => {
        stopped = false;
        try {
            await work(data);
        } catch (e) {
            postMessage({ kind: "error", of: data.kind, message: e.message });
        }
    });
};
