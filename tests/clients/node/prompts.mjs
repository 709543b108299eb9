// OpenAI's own SDK for Node calls a prompt of the library in three ways.

import OpenAI from "openai";

import { KEY, URL, main } from "./cases.mjs";

const client = new OpenAI({ baseURL: `${URL}/v1`, apiKey: KEY, maxRetries: 0 });
const id = "support/triage";
const variables = { ticket: "It crashes." };

const WAYS = {
  prompt: [{ model: "auto", prompt: { id, version: "1", variables } }],
  model: [{ model: `prompt:${id}@production`, metadata: variables }],
  header: [{ model: "auto", variables }, { headers: { "x-prompt-id": id, "x-prompt-version": "production" } }],
};

async function chat([asked, options], stream) {
  const { data, response } = await client.chat.completions
    .create({ messages: [], stream, ...asked }, options)
    .withResponse();
  let text = stream ? "" : data.choices[0].message.content;
  if (stream) for await (const chunk of data) text += chunk.choices[0]?.delta.content ?? "";
  return [text, response.headers.get("x-prompt-version")];
}

async function responses([asked, options], stream) {
  const { data, response } = await client.responses.create({ stream, ...asked }, options).withResponse();
  let text = stream ? "" : data.output_text;
  if (stream) for await (const event of data) if (event.type === "response.output_text.delta") text += event.delta;
  return [text, response.headers.get("x-prompt-version")];
}

const cases = {
  async missing() {
    try {
      await client.responses.create({ prompt: { id: "support/nothing" } });
    } catch (error) {
      return [error.constructor.name, error.status, error.code];
    }
  },
};
for (const [name, asked] of Object.entries(WAYS))
  for (const [endpoint, ask] of Object.entries({ chat, responses }))
    for (const stream of [false, true]) cases[`${endpoint} ${name} ${stream}`] = () => ask(asked, stream);

main(cases);
