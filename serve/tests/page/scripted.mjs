// The page against the scripted server.
import { isDeepStrictEqual } from "node:util";
import { LONG_LINES, MARKUP, THOUGHT } from "./mock.mjs";

const same = (page, got, wanted, what) =>
    page.expect(isDeepStrictEqual(got, wanted), `${what}: ${JSON.stringify(got)}, not ${JSON.stringify(wanted)}`);
const matches = (page, got, pattern, what) => page.expect(pattern.test(got), `${what}: ${JSON.stringify(got)}, not ${pattern}`);

/** Errors of the console that are not about an answer which the test asked for. */
async function quiet(page, allowed = /^$/) {
    const errors = (await page.errors()).map((entry) => entry.message).filter((message) => !allowed.test(message));
    same(page, errors, [], "the console");
}

export const scripted = [
    ["it waits for a model that is being loaded", async (page) => {
        page.control.loading = 3;
        await page.open(page.url);
        matches(page, await page.status(), /Connecting|being loaded/, "while it waits");
        await page.ready();
        same(page, page.control.loading, 0, "refusals left");
        matches(page, await page.run(`return $("about").textContent;`), /^mock · 4,096 positions · teff 0\.1\.0$/, "the model");
        same(page, await page.run(`return document.activeElement.id;`), "prompt", "the focus");
        await quiet(page, /status of 503/);
    }],
    ["it streams an answer, and sends what the conversation was", async (page) => {
        const first = await page.say("hello");
        same(page, [first.answer, first.error], ["Hello, wörld! Grüße 🌾.", ""], "the answer");
        matches(page, first.note, /^2 tokens(, .* tokens\/s)? · prompt 12, 8 of them cached · seed \d+$/, "the note");
        const second = await page.say("hello again");
        same(page, second.turns, 2, "turns");
        const { path, messages, stream, stream_options, model, seed, ...rest } = page.control.asked.at(-1);
        same(page, [path, stream, stream_options, model], ["/v1/chat/completions", true, { include_usage: true }, "mock"], "the request");
        same(page, messages.map((m) => `${m.role}: ${m.content}`),
            ["user: hello", "assistant: Hello, wörld! Grüße 🌾.", "user: hello again"], "the messages");
        page.expect(Number.isInteger(seed) && second.note.endsWith(`seed ${seed}`), `the seed that was sent is shown: ${seed}, ${second.note}`);
        same(page, rest, {}, "nothing that was not set is sent");
        matches(page, await page.run(`return $("say").textContent;`), /^Hello, wörld! Grüße 🌾\. 2 tokens/, "what is read aloud, once");
    }],
    ["Shift and Enter begin a new line", async (page) => {
        await page.run(`$("prompt").focus();`);
        await page.press("h", "i", "Shift+Enter", "y", "o", "u");
        same(page, await page.run(`return $("prompt").value;`), "hi\nyou", "the message");
        await page.press("Enter");
        same(page, (await page.last()).user, "hi\nyou", "it was sent");
    }],
    ["settings are sent, by their names", async (page) => {
        await page.choose({
            system: "Be brief.", temperature: "0.5", most: "64", "top-p": "0.9", "top-k": "20", "min-p": "0.1", seed: "7",
            presence: "0.25", frequency: "-0.5", repeat: "1.1", stops: "END\n\n two words",
        });
        await page.say("hello");
        const { path, model, stream, stream_options, messages, ...rest } = page.control.asked.at(-1);
        same(page, messages[0], { role: "system", content: "Be brief." }, "the system prompt");
        same(page, rest, {
            temperature: 0.5, max_tokens: 64, top_p: 0.9, top_k: 20, min_p: 0.1, seed: 7, presence_penalty: 0.25,
            frequency_penalty: -0.5, repeat_penalty: 1.1, stop: ["END", " two words"],
        }, "the settings");
        // They outlive a reload, and so does the conversation.
        await page.open(page.url);
        await page.ready();
        same(page, await page.run(`return [$("system").value, $("repeat").value, document.querySelectorAll("article").length];`), ["Be brief.", "1.1", 4], "after a reload");
        const before = page.control.asked.length;
        await page.choose({ "top-p": "2" });
        await page.run(`$("prompt").value = "hello"; $("prompt").focus();`);
        await page.press("Enter");
        matches(page, await page.status(), /^Top-p: ./, "a setting out of its range");
        same(page, [await page.run(`return document.activeElement.id;`), page.control.asked.length], ["top-p", before], "it is not sent, but shown");
        const cleared = ["system", "temperature", "most", "top-p", "top-k", "min-p", "seed", "presence", "frequency", "repeat", "stops"];
        await page.choose(Object.fromEntries(cleared.map((id) => [id, ""])));
    }],
    ["a schema is checked to be JSON, and sent", async (page) => {
        const before = page.control.asked.length;
        for (const [text, why] of [['{"type": ', /^Not JSON: ./], ["[1]", /^A schema is an object/]]) {
            await page.choose({ schema: text });
            matches(page, await page.run(`return $("schema-says").textContent;`), why, "beside the schema");
            await page.run(`$("prompt").value = "hello"; $("prompt").focus();`);
            await page.press("Enter");
            matches(page, await page.status(), /^The JSON schema can't be sent/, "the status");
            same(page, await page.run(`return [document.activeElement.id, $("schema").getAttribute("aria-invalid")];`), ["schema", "true"], "the focus");
        }
        same(page, page.control.asked.length, before, "nothing was sent");
        const schema = { type: "object", properties: { name: { type: "string" } }, required: ["name"] };
        await page.choose({ schema: JSON.stringify(schema) });
        const turn = await page.say("hello");
        same(page, turn.answer, '{"name": "**x**"}', "JSON is shown as it came");
        same(page, page.control.asked.at(-1).response_format, { type: "json_schema", json_schema: { name: "answer", strict: true, schema } }, "the format");
        await page.choose({ schema: "" });
    }],
    ["the end of an answer clears no timer of others", async (page) => {
        await page.run(`window.cleared = 0;
            const clear = clearTimeout.bind(window);
            window.clearTimeout = (id) => { cleared += 1; clear(id); };`);
        await page.say("hello");
        same(page, await page.run(`return cleared;`), 0, "timers that were cleared");
    }],
    ["Markdown is shown by nodes, and markup as text", async (page) => {
        const turn = await page.say("markdown");
        page.expect(turn.answer.includes(MARKUP), `the markup is text: ${turn.answer}`);
        const shown = await page.run(`const text = [...document.querySelectorAll("article")].at(-1).querySelector(".body > .text");
            const all = (css) => [...text.querySelectorAll(css)].map((node) => node.textContent);
            return { title: document.title, tags: [...new Set([...text.querySelectorAll("*")].map((n) => n.localName))].sort(),
                b: all("b"), code: all(":not(pre) > code"), pre: all("pre .l").filter(Boolean), h: all(".h"), i: all(".i") };`);
        same(page, shown, {
            title: "mock – Teff", tags: ["b", "code", "div", "pre"], b: ["bold text"], code: ["code"],
            pre: ["<b>not bold</b> **nor this**"], h: ["A heading"], i: ["- one", "- two"],
        }, "what is shown");
        await quiet(page);
    }],
    ["thoughts are folded up, and not sent back", async (page) => {
        const turn = await page.say("think");
        same(page, [turn.thought, turn.answer], [THOUGHT, "Four."], "the thought and the answer");
        same(page, await page.run(`return document.querySelector("details.think").open;`), false, "it is open");
        await page.say("hello");
        page.expect(!JSON.stringify(page.control.asked.at(-1)).includes(THOUGHT), "the thought was sent back");
    }],
    ["calls of tools are shown as text", async (page) => {
        const turn = await page.say("tool");
        same(page, turn.calls, 'weather({"city": "<b>Aksum</b>"})', "the call");
        matches(page, turn.note, /^It calls a tool\./, "the note");
    }],
    ["Stop and Escape end an answer, and the server hears of it", async (page) => {
        const { control } = page;
        for (const how of ["button", "Escape"]) {
            const cancelled = control.cancelled;
            await page.run(`$("prompt").value = "endless " + arguments[0]; $("prompt").focus();`, how);
            await page.press("Enter");
            await page.run(`await until(() => /piece 5 /.test([...document.querySelectorAll("article")].at(-1).textContent));`);
            same(page, await page.run(`return [$("send").hidden, document.querySelectorAll(".busy").length];`), [true, 1], "while it answers");
            if (how === "button") await page.click("#stop");
            else await page.press("Escape");
            const turn = await page.last();
            matches(page, turn.note, /^Stopped\. · seed/, "the note");
            matches(page, turn.answer, /^piece 1 piece 2 /, "what had come stays");
            while (control.cancelled === cancelled) await new Promise((go) => setTimeout(go, 10));
            same(page, await page.run(`return [$("send").hidden, document.activeElement.id];`), [false, "prompt"], "after it");
        }
        await page.say("hello");
        matches(page, page.control.asked.at(-1).messages.at(-2).content, /^piece 1 /, "a stopped answer belongs to the conversation");
    }],
    ["an answer is generated again", async (page) => {
        const before = (await page.last()).turns;
        const [first, messages] = [page.control.asked.at(-1).seed, page.control.asked.at(-1).messages];
        await page.run(`[...document.querySelectorAll("article")].at(-1).querySelector(".answer .acts button").click();`);
        const turn = await page.last();
        same(page, [turn.turns, turn.answer], [before, "Hello, wörld! Grüße 🌾."], "the turn");
        same(page, page.control.asked.at(-1).messages, messages, "the same messages");
        page.expect(page.control.asked.at(-1).seed !== first, "another seed");
    }],
    ["a message is edited, and that can be undone", async (page) => {
        const { turns } = await page.last();
        await page.run(`document.querySelectorAll("article")[1].querySelector(".user .acts button").click();`);
        same(page, await page.run(`return [$("prompt").value, document.querySelectorAll("article").length];`), ["hello again", 1], "edited");
        await page.click("#undo");
        same(page, (await page.last()).turns, turns, "undone");
        await page.run(`$("prompt").value = "";`);
    }],
    ["it is cleared, and that can be undone", async (page) => {
        const { turns, answer } = await page.last();
        await page.click("#clear");
        same(page, await page.run(`return [document.querySelectorAll("article").length, $("empty").hidden, $("clear").hidden];`), [0, false, true], "cleared");
        await page.click("#undo");
        const last = await page.last();
        same(page, [last.turns, last.answer], [turns, answer], "undone");
        await page.click("#clear");
        await page.say("hello");
        same(page, page.control.asked.at(-1).messages.length, 1, "a new conversation");
        same(page, await page.run(`return $("undo").hidden;`), true, "no way back after it went on");
    }],
    ["errors are shown in the server's words", async (page) => {
        const refused = await page.say("refuse");
        same(page, [refused.error, refused.answer], ["top_k: 3 is not what this test wants", ""], "a refusal");
        same(page, (await page.say("broken")).error, "the model's thread has ended", "an error in a stream");
        const roles = page.control.asked.at(-1).messages.map((m) => m.role);
        same(page, roles, ["user", "assistant", "user"], "a refused message is not sent again");
        for (const [message, kept] of [["lost", "Half of a sen"], ["short", "A body that ends too early"]]) {
            const turn = await page.say(message);
            same(page, [turn.answer, turn.error], [kept, "The connection was lost before the answer was complete."], message);
            same(page, await page.run(`return [...document.querySelectorAll("article")].at(-1).querySelector(".answer .acts button").textContent;`), "Try again", "what can be done");
        }
        await quiet(page, /status of 400|net::ERR/);
    }],
    ["the end by a limit is told", async (page) => {
        matches(page, (await page.say("context")).note, /^The context is full\. · 1 token · /, "a full context");
        matches(page, (await page.say("once")).note, /^Cut at the limit of tokens\. · /, "a limit");
    }],
    ["a long answer is whole", async (page) => {
        const turn = await page.say("long");
        const lines = turn.answer.trimEnd().split("\n");
        same(page, [lines.length, lines[0], lines.at(-1)], [LONG_LINES, "line 0 of a long answer", `line ${LONG_LINES - 1} of a long answer`], "lines");
        const [end, nodes, said] = await page.run(`return [$("log").scrollHeight - $("log").scrollTop - $("log").clientHeight,
            [...document.querySelectorAll("article")].at(-1).querySelector(".body > .text").childNodes.length, $("say").textContent.length];`);
        page.expect(end < 100, `it follows the text: ${end} px from the end`);
        same(page, nodes, LONG_LINES + 1, "a block for each line");
        page.expect(said < 800, `${said} characters are read aloud`);
        await page.click("#clear");
    }],
    ["who reads further up is left there", async (page) => {
        await page.say("long");
        await page.run(`$("prompt").value = "endless"; $("prompt").focus();`);
        await page.press("Enter");
        const text = `[...document.querySelectorAll("article")].at(-1).textContent`;
        await page.run(`await until(() => /piece 2 /.test(${text}));
            $("log").scrollTop = 500;
            await until(() => /piece 9 /.test(${text}));`);
        same(page, await page.run(`return $("log").scrollTop;`), 500, "while it answers");
        await page.press("Escape");
        await page.last();
        same(page, await page.run(`return $("log").scrollTop;`), 500, "when it has ended");
        await page.click("#clear");
    }],
    ["the strip shows the server, and rests while nobody looks", async (page) => {
        await page.run(`await until(() => /^[1-9]/.test($("l-speed").textContent));`);
        const [speed, ...rest] = await page.run(`return ["speed", "batch", "queue", "pages", "hits"].map((name) => $("l-" + name).textContent);`);
        matches(page, speed, /^[\d,.]+ tokens\/s$/, "the speed");
        same(page, rest, ["3 sequences, 45 tokens", "2", "24 used, 30 cached, 10 free", "1,500 tokens (75%)"], "the strip");
        same(page, await page.run(`return [...document.querySelectorAll("#bar i")].map((i) => i.style.flexGrow);`), ["24", "30", "10"], "the bar");
        const hide = `Object.defineProperty(document, "hidden", { value: arguments[0], configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));`;
        const polls = () => page.control.polls;
        await page.run(hide, true);
        await new Promise((go) => setTimeout(go, 300)); // One may be under way.
        const before = polls();
        await new Promise((go) => setTimeout(go, 2500));
        same(page, polls(), before, "questions while it is hidden");
        await page.run(hide, false);
        while (polls() < before + 2) await new Promise((go) => setTimeout(go, 20));
    }],
    ["a model without a chat template continues texts", async (page) => {
        page.control.template = false;
        await page.open(page.url);
        await page.ready();
        same(page, await page.run(`return [$("mode").value, $("mode-why").hidden, $("system-field").hidden, $("prompt").placeholder];`), ["text", false, true, "Beginning of a text"], "the mode");
        const turn = await page.say("Once upon a time");
        same(page, turn.answer, " there was a grain.", "the text");
        const { path, prompt, messages } = page.control.asked.at(-1);
        same(page, [path, prompt, messages], ["/v1/completions", "Once upon a time", undefined], "the request");
        await page.run(`[...document.querySelectorAll(".answer .acts button")].find((b) => b.textContent === "Go on").click();`);
        same(page, (await page.last()).answer, " there was a grain. there was a grain.", "it goes on");
        same(page, page.control.asked.at(-1).prompt, "Once upon a time there was a grain.", "from where it was");
        await page.choose({ mode: "chat" });
        await page.say("hello");
        same(page, page.control.asked.at(-1).messages, [{ role: "user", content: "hello" }], "or converses, if that is wanted, without the text");
        await page.run(`sessionStorage.removeItem("teff-mode");`);
        page.control.template = true;
        await page.open(page.url);
        await page.ready();
        same(page, await page.run(`return [$("mode").value, $("mode-why").hidden];`), ["chat", true], "with a template");
        await page.click("#clear");
    }],
    ["a key is asked for, kept for the tab, and sent", async (page) => {
        page.control.key = "grain-of-teff";
        const turn = await page.say("hello");
        same(page, turn.error, "invalid API key", "without a key");
        same(page, await page.run(`return [$("key").hidden, document.activeElement.id];`), [false, "secret"], "it asks for it");
        await page.shot("key");
        await page.press(..."wrong", "Enter");
        await page.run(`await until(() => /doesn't take/.test($("status").textContent));`);
        same(page, await page.run(`return document.activeElement.id;`), "secret", "the focus after a wrong one");
        await page.press(..."grain-of-teff", "Enter");
        await page.run(`await until(() => document.querySelector(".answer .note") && $("stop").hidden);`);
        const answered = await page.last();
        same(page, [answered.turns, answered.answer, answered.error], [1, "Hello, wörld! Grüße 🌾.", ""], "it asks again by itself");
        await page.open(page.url);
        await page.ready();
        same(page, await page.run(`return [$("key").hidden, sessionStorage.getItem("teff-key"), localStorage.length];`), [true, "grain-of-teff", 0], "after a reload");
        page.control.key = "";
        await page.click("#clear");
        await quiet(page, /status of 401/);
    }],
    ["the server goes away, and comes back", async (page) => {
        // Offline, as the browser has it.
        const offline = (on) => page.devtools("Network.emulateNetworkConditions", { offline: on, latency: 0, downloadThroughput: -1, uploadThroughput: -1 });
        await page.devtools("Network.enable");
        await offline(true);
        same(page, (await page.say("hello")).error, "The server doesn't answer.", "while it is away");
        await page.run(`await until(() => $("l-batch").textContent === "–");`);
        await offline(false);
        await page.run(`[...document.querySelectorAll("article")].at(-1).querySelector(".answer .acts button").click();`);
        same(page, (await page.last()).answer, "Hello, wörld! Grüße 🌾.", "again");
        await page.click("#clear");
        await quiet(page, /net::ERR/);
    }],
    ["it asks for nothing else", async (page) => {
        same(page, page.control.others, [], "other requests");
        const hosts = await page.run(`return [...new Set(performance.getEntriesByType("resource").map((e) => new URL(e.name).origin))];`);
        same(page, hosts, [new URL(page.url).origin], "origins");
    }],
];
