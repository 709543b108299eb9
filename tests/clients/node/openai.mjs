// OpenAI's own SDK for Node.

import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

import { ANN, EMBEDDER, FRANCE, KEY, LARGE, ONCE, SMALL, URL, WEATHER, main, raisedBy } from "./cases.mjs";

const client = new OpenAI({ baseURL: `${URL}/v1`, apiKey: KEY, maxRetries: 0 });
const user = (content) => [{ role: "user", content }];
const BRIEFLY = { model: SMALL, temperature: 0, max_completion_tokens: 48 };
const BRIEF_RESPONSE = { model: SMALL, temperature: 0, max_output_tokens: 48 };
const Person = z.object({ name: z.string(), age: z.number().int() });
const PARAMETERS = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const WEATHER_TOOL = { name: "get_weather", description: "The weather in a city now.", parameters: PARAMETERS };
const getWeather = ({ city }) => `18 degrees and sunny in ${city}`;

const chat = (asked) => client.chat.completions.create({ ...BRIEFLY, ...asked });

main({
  async plain() {
    const { data, response, request_id } = await chat({ messages: user(FRANCE) }).withResponse();
    const headers = { model: response.headers.get("x-pointsman-model"), id: request_id };
    return { text: data.choices[0].message.content, usage: data.usage, headers };
  },

  async streamed() {
    const stream = await chat({ messages: user(FRANCE), stream: true, stream_options: { include_usage: true } });
    const chunks = await all(stream);
    return {
      text: chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join(""),
      usage: chunks.map((chunk) => chunk.usage).filter(Boolean),
    };
  },

  async streamHelper() {
    const stream = client.chat.completions.stream({ ...BRIEFLY, messages: user(FRANCE) });
    return await stream.finalContent();
  },

  async aborted() {
    const stream = await chat({ messages: user("Count to a hundred."), max_completion_tokens: 400, stream: true });
    let chunks = 0;
    for await (const _ of stream) if (++chunks === 3) break; // closes the connection
    return chunks;
  },

  async forcedTool() {
    const answer = await chat({
      messages: user(WEATHER),
      tools: [{ type: "function", function: WEATHER_TOOL }],
      tool_choice: { type: "function", function: { name: "get_weather" } },
    });
    return answer.choices[0].message.tool_calls;
  },

  async toolRound() {
    const runner = client.chat.completions.runTools({
      ...BRIEFLY,
      model: LARGE,
      messages: [{ role: "system", content: ONCE }, ...user(WEATHER)],
      tools: [{ type: "function", function: { ...WEATHER_TOOL, function: getWeather, parse: JSON.parse } }],
    });
    return { answer: await runner.finalContent(), roles: runner.messages.map((message) => message.role) };
  },

  async parsed() {
    const format = zodResponseFormat(Person, "person");
    const answer = await client.chat.completions.parse({ ...BRIEFLY, messages: user(ANN), response_format: format });
    return answer.choices[0].message.parsed;
  },

  async response() {
    const answer = await client.responses.create({ ...BRIEF_RESPONSE, input: FRANCE });
    return { text: answer.output_text, status: answer.status, usage: answer.usage };
  },

  async responseStreamed() {
    const stream = client.responses.stream({ ...BRIEF_RESPONSE, input: FRANCE });
    const kinds = new Set((await all(stream)).map((event) => event.type));
    return { kinds: [...kinds], text: (await stream.finalResponse()).output_text };
  },

  async responseParsed() {
    const text = { format: zodTextFormat(Person, "person") };
    return (await client.responses.parse({ ...BRIEF_RESPONSE, input: ANN, text })).output_parsed;
  },

  async responseContinued() {
    const first = await client.responses.create({ ...BRIEF_RESPONSE, input: "My name is Ann." });
    const input = "What is my name? Answer with one word.";
    return (await client.responses.create({ ...BRIEF_RESPONSE, input, previous_response_id: first.id })).output_text;
  },

  async embedded() {
    const { data } = await client.embeddings.create({ model: EMBEDDER, input: ["a cat", "a dog"] });
    return data.map(({ embedding }) => embedding.length);
  },

  async models() {
    return (await all(client.models.list())).map((model) => model.id);
  },

  async unknownModel() {
    const error = await raisedBy(() => chat({ model: "no-such-model", messages: user(FRANCE) }));
    return { isNotFound: error instanceof OpenAI.NotFoundError, code: error.code, id: error.requestID };
  },

  async wrongKey() {
    const stranger = new OpenAI({ baseURL: `${URL}/v1`, apiKey: "wrong", maxRetries: 0 });
    return (await raisedBy(() => stranger.models.list())) instanceof OpenAI.AuthenticationError;
  },
});

async function all(iterable) {
  const items = [];
  for await (const item of iterable) items.push(item);
  return items;
}
