// A server that answers as `teff serve` does, from a script: what the page is tested against where no model
// could be made to say the same (errors in the middle of a stream, a lost connection, thoughts, tools).
import { randomUUID } from "node:crypto";
import { createServer } from "node:http";

/** The page and the policy under which it must work: its own script and style, by a number that is used once. */
function guarded(html) {
    const nonce = randomUUID();
    const marked = html.replace("<script>", `<script nonce="${nonce}">`).replace("<style>", `<style nonce="${nonce}">`);
    const policy = `default-src 'none'; script-src 'nonce-${nonce}'; style-src 'nonce-${nonce}'; `
        + "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    return { marked, policy };
}

export const LONG_LINES = 20_000;
export const THOUGHT = "First I count, then I answer.";
export const MARKUP = "<img src=x onerror=\"document.title='broken'\"><script>document.title='broken'</script>";
export const MARKDOWN = `# A heading

Some **bold text** and \`code\`.

- one
- two

\`\`\`html
<b>not bold</b> **nor this**
\`\`\`
The end, as it came: ${MARKUP} *`;

/** Answers by the first word of the last message, or of the prompt. */
const SCRIPTS = {
    async hello(s) {
        // A character in two chunks, a comment, and lines that end by CR LF.
        s.raw(": keep-alive\r\n\r\n");
        s.piece("Hello, wörld! ");
        const bytes = Buffer.from(`data: ${JSON.stringify(s.chunk({ content: "Grüße 🌾." }))}\r\n\r\n`);
        const middle = bytes.indexOf(Buffer.from("🌾")) + 2;
        s.tokens += 1;
        s.raw(bytes.subarray(0, middle));
        await s.pause(50);
        s.raw(bytes.subarray(middle));
        s.end("stop");
    },
    async markdown(s) {
        for (const piece of MARKDOWN.match(/[^]{1,3}/gu)) s.piece(piece);
        s.end("stop");
    },
    async endless(s) {
        for (let i = 1; !s.gone; i++) {
            s.piece(`piece ${i} `);
            await s.pause(20);
        }
    },
    async long(s) {
        for (let i = 0; i < LONG_LINES; i++) s.piece(`line ${i} of a long answer\n`);
        s.end("length");
    },
    async think(s) {
        for (const word of THOUGHT.split(/(?= )/)) s.delta({ reasoning_content: word });
        s.piece("Four.");
        s.end("stop");
    },
    async tool(s) {
        s.delta({ tool_calls: [{ index: 0, id: "call_1", type: "function", function: { name: "weather", arguments: "" } }] });
        for (const part of ['{"city": ', '"<b>Aksum</b>"}']) s.delta({ tool_calls: [{ index: 0, function: { arguments: part } }] });
        s.end("tool_calls");
    },
    async lost(s) {
        s.piece("Half of a sen");
        await s.pause(50);
        s.response.destroy();
    },
    async short(s) {
        s.piece("A body that ends too early");
        s.response.end();
    },
    async broken(s) {
        s.piece("So far, so good");
        s.raw('data: {"error":{"message":"the model\'s thread has ended","type":"server_error","code":500}}\n\n');
        s.response.end();
    },
    async once(s) {
        s.piece(" there was a grain.");
        s.end("length");
    },
    async context(s) {
        s.piece("No room");
        s.end("length", 4096);
    },
};

/** The events of one answer. */
class Scripted {
    constructor(response, text) {
        Object.assign(this, { response, text, gone: false, tokens: 0 });
        response.on("close", () => { this.gone = true; });
    }

    pause(ms) {
        return new Promise((go) => setTimeout(go, ms));
    }

    raw(bytes) {
        if (!this.gone) this.response.write(bytes);
    }

    chunk(delta, finish_reason = null) {
        const choice = this.text ? { text: delta.content ?? "" } : { delta };
        const object = this.text ? "text_completion" : "chat.completion.chunk";
        return { id: "chatcmpl-1", object, created: 1, model: "mock", choices: [{ index: 0, ...choice, finish_reason }] };
    }

    delta(delta, finish) {
        this.tokens += delta.role || finish ? 0 : 1;
        this.raw(`data: ${JSON.stringify(this.chunk(delta, finish))}\n\n`);
    }

    piece(content) {
        this.delta({ content });
    }

    end(finish, prompt_tokens = 12) {
        this.delta({}, finish);
        const usage = { prompt_tokens, completion_tokens: this.tokens, total_tokens: prompt_tokens + this.tokens, prompt_tokens_details: { cached_tokens: 8 } };
        this.raw(`data: ${JSON.stringify({ ...this.chunk({}), choices: [], usage })}\n\ndata: [DONE]\n\n`);
        this.response.end();
    }
}

/** A server for this page. `control` is its state, which a test may change; `control.asked` is what it was asked. */
export async function mock(html) {
    const control = { loading: 0, key: "", template: true, polls: 0, cancelled: 0, generated: 0, asked: [], others: [] };
    const json = (response, status, value) => {
        response.writeHead(status, { "Content-Type": "application/json" });
        response.end(JSON.stringify(value));
    };
    const refuse = (response, status, message, type) => json(response, status, { error: { message, type, code: status } });

    async function generate(request, response, text) {
        let body = "";
        for await (const part of request) body += part;
        const asked = JSON.parse(body);
        control.asked.push({ path: request.url, ...asked });
        const said = text ? asked.prompt : asked.messages.at(-1).content;
        if (said.startsWith("refuse")) {
            return refuse(response, 400, "top_k: 3 is not what this test wants", "invalid_request_error");
        }
        const script = SCRIPTS[said.toLowerCase().split(" ")[0]] ?? SCRIPTS.hello;
        response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-cache" });
        const s = new Scripted(response, text);
        response.on("close", () => { control.cancelled += response.writableEnded ? 0 : 1; });
        if (asked.response_format) {
            s.piece('{"name": ');
            s.piece('"**x**"}');
            return s.end("stop");
        }
        if (!text) s.delta({ role: "assistant", content: null });
        return script(s);
    }

    const server = createServer(async (request, response) => {
        const path = `${request.method} ${request.url}`;
        if (path === "GET /") {
            const { marked, policy } = guarded(html);
            response.writeHead(200, { "Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policy });
            return response.end(marked);
        }
        if (path === "GET /metrics") control.polls += 1;
        if (control.key && request.headers.authorization !== `Bearer ${control.key}`) {
            return refuse(response, 401, "invalid API key", "authentication_error");
        }
        if (control.loading > 0) {
            control.loading -= 1;
            return refuse(response, 503, "loading model", "unavailable_error");
        }
        switch (path) {
            case "GET /v1/models":
                return json(response, 200, { object: "list", data: [{ id: "mock", object: "model", created: 1, owned_by: "teff" }] });
            case "GET /props":
                return json(response, 200, {
                    default_generation_settings: { n_ctx: 4096, params: { temperature: 0.8, top_k: 40, top_p: 0.95, min_p: 0.05, max_tokens: -1 } },
                    chat_template: "{{ messages }}", chat_template_source: control.template ? "model" : "builtin", build_info: "teff 0.1.0",
                });
            case "GET /metrics":
                control.generated += 40;
                response.writeHead(200, { "Content-Type": "text/plain; version=0.0.4" });
                return response.end(metrics(control.generated));
            case "POST /v1/chat/completions":
                return generate(request, response, false);
            case "POST /v1/completions":
                return generate(request, response, true);
            default:
                control.others.push(path);
                return refuse(response, 404, `there is no ${path}`, "not_found_error");
        }
    });
    await new Promise((done) => server.listen(0, "127.0.0.1", done));
    return { url: `http://127.0.0.1:${server.address().port}/`, control, server };
}

function metrics(generated) {
    return `# HELP teff_queue_requests Sequences that wait to be admitted.
# TYPE teff_queue_requests gauge
teff_queue_requests 2.0
# HELP teff_batch_sequences Sequences of the last step.
# TYPE teff_batch_sequences gauge
teff_batch_sequences 3.0
# HELP teff_batch_tokens Tokens of the last step.
# TYPE teff_batch_tokens gauge
teff_batch_tokens 45.0
# HELP teff_pages Pages of the KV cache by state.
# TYPE teff_pages gauge
teff_pages{state="running"} 24.0
teff_pages{state="cached"} 30.0
teff_pages{state="free"} 10.0
# HELP teff_prompt_tokens Tokens of prompts.
# TYPE teff_prompt_tokens counter
teff_prompt_tokens_total 2000
# HELP teff_prompt_tokens_cached Tokens of prompts that came from cached prefixes.
# TYPE teff_prompt_tokens_cached counter
teff_prompt_tokens_cached_total 1500
# HELP teff_generated_tokens Generated tokens.
# TYPE teff_generated_tokens counter
teff_generated_tokens_total ${generated}
# EOF
`;
}
