// What a user's JavaScript does with the openai package; says as JSON what it heard.
// Run: node openai_npm.mjs HUB_URL MODEL, in a folder where the package is installed.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const here = createRequire(process.cwd() + "/");
const { default: OpenAI } = await import(pathToFileURL(here.resolve("openai")));

const [hub, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${hub}/v1`, apiKey: "unused", maxRetries: 0, timeout: 60_000 });
const messages = [{ role: "user", content: "What is the capital of France?" }];
const asked = { model, messages, max_tokens: 8, temperature: 0, cache_prompt: false }; // said twice, the same
const told = {};

told.models = (await client.models.list()).data.map((one) => one.id);

const whole = await client.chat.completions.create(asked);
told.whole = { text: whole.choices[0].message.content, tokens: whole.usage.completion_tokens };

told.pieces = [];
for await (const chunk of await client.chat.completions.create({ ...asked, stream: true })) {
  told.pieces.push(chunk.choices[0].delta.content ?? "");
}

const completion = await client.completions.create({ model, prompt: "Once upon a time", max_tokens: 4 });
told.completion = completion.choices[0].text;

const response = await client.responses.create({ model, input: messages[0].content, max_output_tokens: 8, temperature: 0 });
told.response = response.output_text;

const stream = client.responses.stream({ model, input: messages[0].content, max_output_tokens: 8, temperature: 0 });
told.events = [];
for await (const event of stream) told.events.push(event.type);
told.streamed = (await stream.finalResponse()).output_text;

told.errors = {};
for (const [name, ask] of Object.entries({
  unknown: () => client.chat.completions.create({ ...asked, model: "nobody/has:this" }),
  wrong: () => client.chat.completions.create({ ...asked, max_tokens: "many" }),
  embeddings: () => client.embeddings.create({ model, input: "hi" }),
  speech: () => client.audio.speech.create({ model, voice: "alloy", input: "hi" }),
})) {
  try {
    await ask();
  } catch (error) {
    told.errors[name] = [error.constructor.name, error.status, error.code];
  }
}

const leaving = await client.chat.completions.create({ ...asked, max_tokens: 2000, stream: true });
for await (const chunk of leaving) {
  if (chunk.choices[0]?.delta?.content) break; // the package aborts the request
}

console.log(JSON.stringify(told));
