// The page against a server with a model, of which it is not known what it will say.

async function open(page) {
    await page.open(page.url);
    if (page.key) {
        await page.run(`await until(() => !$("key").hidden);`);
        await page.press(...page.key, "Enter");
    }
    await page.ready();
}

export const real = [
    ["it meets the server", async (page) => {
        const policy = (await fetch(page.url)).headers.get("content-security-policy") ?? "";
        page.expect(/default-src 'none'/.test(policy) && !/script-src[^;]*'unsafe/.test(policy), `the policy: ${policy}`);
        await open(page);
        const about = await page.run(`return $("about").textContent;`);
        page.expect(/\S · [\d,]+ positions/.test(about), `the model: ${about}`);
        console.log(`   ${about}, mode: ${await page.run(`return $("mode").value;`)}`);
    }],
    ["the same seed gives the same text", async (page) => {
        await page.choose({ most: "24", seed: "7", temperature: "0.8" });
        const first = await page.say("Once upon a time");
        page.expect(first.error === "" && first.answer.length > 0, `an answer: ${JSON.stringify(first)}`);
        page.expect(/tokens?.* · prompt \d+.* · seed 7$/.test(first.note), `the note: ${first.note}`);
        await page.run(`document.querySelector(".answer .acts button").click();`);
        const again = await page.last();
        page.expect(again.turns === 1 && again.answer === first.answer, `again: ${again.answer}, not ${first.answer}`);
        await page.choose({ seed: "8" });
        await page.run(`document.querySelector(".answer .acts button").click();`);
        const other = await page.last();
        page.expect(other.error === "" && other.answer !== first.answer, `another seed: ${JSON.stringify(other)}`);
        await page.shot("real");
    }],
    ["the strip shows it", async (page) => {
        await page.run(`await until(() => /tokens\\/s/.test($("l-speed").textContent));`);
        const strip = await page.run(`return Object.fromEntries(["batch", "queue", "speed", "hits", "pages"].map((name) => [name, $("l-" + name).textContent]));`);
        console.log(`   ${JSON.stringify(strip)}`);
        const pages = /^([\d,]+) used, ([\d,]+) cached, ([\d,]+) free$/.exec(strip.pages)?.slice(1).map((n) => Number(n.replaceAll(",", "")));
        page.expect(pages && pages[0] + pages[1] + pages[2] > 0, `pages: ${strip.pages}`);
        page.expect(/^\d+ sequences?, \d+ tokens?$/.test(strip.batch) && /^\d+$/.test(strip.queue) && /^[\d,]+ tokens?/.test(strip.hits), "the other figures");
    }],
    ["a schema holds", async (page) => {
        await page.click("#clear");
        await page.choose({ schema: '{"type": "object", "properties": {"ripe": {"type": "boolean"}}, "required": ["ripe"], "additionalProperties": false}', most: "200" });
        const turn = await page.say("Is it ripe?");
        page.expect(turn.error === "", `an answer: ${turn.error}`);
        if (!/limit|full/.test(turn.note)) {
            const value = JSON.parse(turn.answer);
            page.expect(Object.keys(value).join() === "ripe" && typeof value.ripe === "boolean", turn.answer);
        }
        console.log(`   ${turn.answer}`);
    }],
    ["the server's errors are shown", async (page) => {
        await page.choose({ schema: '{"type": "no such type"}' });
        const turn = await page.say("Is it ripe?");
        page.expect(turn.error.length > 10 && turn.answer === "", `it is refused: ${JSON.stringify(turn)}`);
        console.log(`   ${turn.error}`);
        await page.choose({ schema: "" });
    }],
    ["Stop ends an answer", async (page) => {
        await page.click("#clear");
        await page.choose({ most: "", temperature: "1", seed: "" });
        // A small model may end before it can be stopped.
        let note = "";
        for (let i = 0; i < 20 && !note.startsWith("Stopped."); i++) {
            await page.run(`$("prompt").value = "Once upon a time"; $("send").click();
                await until(() => [...document.querySelectorAll("article")].at(-1).querySelector(".body > .text") || $("stop").hidden);
                $("stop").click();`);
            ({ note } = await page.last());
        }
        page.expect(note.startsWith("Stopped."), `it was stopped: ${note}`);
        await page.click("#clear");
    }],
    ["nothing is amiss", async (page) => {
        const allowed = page.key ? /status of (400|401)/ : /status of 400/;
        const errors = (await page.errors()).map((entry) => entry.message).filter((message) => !allowed.test(message));
        page.expect(errors.length === 0, `the console says ${errors}`);
        const origins = await page.run(`return [...new Set(performance.getEntriesByType("resource").map((e) => new URL(e.name).origin))];`);
        page.expect(origins.join() === new URL(page.url).origin, `it asked ${origins}`);
    }],
];
