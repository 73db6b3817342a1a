// The page: what is chosen and typed goes to the worker; what it writes comes back.
const $ = (id) => document.getElementById(id);
const worker = new Worker("worker.js", { type: "module" });
let dropped; // a file of the user's
let ready = false;
let writing = false;

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

function say(text, bad = false) {
    $("status").textContent = text;
    $("status").classList.toggle("bad", bad);
}

function buttons() {
    $("write").disabled = !ready || writing;
    $("stop").disabled = !writing;
    for (const id of ["model", "file", "context"]) $(id).disabled = writing;
}

function load() {
    ready = false;
    buttons();
    say("Loading…");
    const source = $("model").value || dropped;
    worker.postMessage({ kind: "open", source, context: $("context").valueAsNumber || 512 });
}

function take(file) {
    if (!file || writing) return;
    dropped = file;
    $("own").textContent = `${file.name}, ${megabytes(file.size)}`;
    $("own").hidden = false;
    $("model").value = "";
    load();
}

function write() {
    if ($("write").disabled) return;
    const number = (id) => $(id).valueAsNumber || 0;
    const options = {
        most: number("most") || 200, temperature: number("temperature"), topK: number("topK"),
        topP: number("topP") || 1, seed: number("seed"),
    };
    const prompt = $("prompt").value;
    const begin = document.createElement("b");
    begin.textContent = prompt;
    $("text").replaceChildren(begin, document.createTextNode(""));
    writing = true;
    buttons();
    say("Writing…");
    worker.postMessage({ kind: "generate", prompt, options });
}

const ENDS = {
    end: "The end.", length: "As many tokens as you asked for.", full: "The context is full.",
    stopped: "Stopped.",
};

const on = {
    needs({ file, tables, text }) {
        say(`The file takes ${megabytes(file)}, its tables ${megabytes(tables)}, a text ${megabytes(text)}…`);
    },
    ready({ info, memory }) {
        ready = true;
        $("memory").textContent = megabytes(memory);
        $("backend").textContent = info.backend;
        say(`${info.name || info.family} is ready: ${Number(info.parameters).toLocaleString("en")} parameters, ${info.positions} positions.`);
    },
    text({ text, progress, tokens, rate, memory }) {
        $("text").lastChild.appendData(text);
        $("tokens").textContent = tokens;
        if (rate > 0) $("speed").textContent = `${rate.toFixed(rate < 10 ? 1 : 0)} tokens/s`;
        $("memory").textContent = megabytes(memory);
        if (progress === "more") return;
        writing = false;
        say(ENDS[progress]);
    },
    error({ of, message }) {
        if (of === "generate") writing = false;
        say(`Error: ${message}`, true);
    },
};

worker.onmessage = ({ data }) => {
    on[data.kind](data);
    buttons();
};
worker.onerror = (e) => say(`Error: the worker failed: ${e.message}`, true);

$("model").onchange = load;
$("context").onchange = load;
$("file").onchange = () => take($("file").files[0]);
$("write").onclick = write;
$("stop").onclick = () => worker.postMessage({ kind: "stop" });
$("prompt").onkeydown = (e) => {
    if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) write();
};
addEventListener("dragover", (e) => {
    e.preventDefault();
    $("drop").classList.add("over");
});
addEventListener("dragleave", () => $("drop").classList.remove("over"));
addEventListener("drop", (e) => {
    e.preventDefault();
    $("drop").classList.remove("over");
    take(e.dataTransfer.files[0]);
});
load();
