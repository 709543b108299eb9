// The Vercel AI SDK: its OpenAI-compatible provider, and its OpenAI provider, which speaks Responses.

import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, Output, embedMany, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

import { ANN, EMBEDDER, FRANCE, KEY, LARGE, ONCE, SMALL, URL, WEATHER, main, raisedBy } from "./cases.mjs";

const compatible = (apiKey = KEY) =>
  createOpenAICompatible({
    name: "pointsman",
    baseURL: `${URL}/v1`,
    apiKey,
    includeUsage: true,
    supportsStructuredOutputs: true,
  });
const openai = createOpenAI({ baseURL: `${URL}/v1`, apiKey: KEY });

const BRIEFLY = { temperature: 0, maxOutputTokens: 48, maxRetries: 0 };
const person = Output.object({ schema: z.object({ name: z.string(), age: z.number().int() }) });
const get_weather = tool({
  description: "The weather in a city now.",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => `18 degrees and sunny in ${city}`,
});

async function plain(model) {
  const { text, usage, finishReason } = await generateText({ ...BRIEFLY, model, prompt: FRANCE });
  return { text, input: usage.inputTokens, output: usage.outputTokens, finishReason };
}

async function streamed(model) {
  const result = streamText({ ...BRIEFLY, model, prompt: FRANCE, onError: ({ error }) => { throw error; } });
  const pieces = [];
  for await (const piece of result.textStream) pieces.push(piece);
  const usage = await result.usage;
  return { text: pieces.join(""), input: usage.inputTokens, output: usage.outputTokens };
}

async function structured(model) {
  return (await generateText({ ...BRIEFLY, model, prompt: ANN, output: person })).output;
}

// The model calls, gets the result and answers, by the SDK's own loop.
async function toolRound(model) {
  const { text, steps } = await generateText({
    ...BRIEFLY,
    model,
    system: ONCE,
    prompt: WEATHER,
    tools: { get_weather },
    stopWhen: stepCountIs(3),
  });
  const calls = steps.flatMap((step) => step.toolCalls.map((call) => [call.toolName, call.input]));
  return { calls, answer: text, steps: steps.length };
}

async function streamedCall(model) {
  const toolChoice = { type: "tool", toolName: "get_weather" };
  const result = streamText({ ...BRIEFLY, model, prompt: WEATHER, tools: { get_weather }, toolChoice });
  return (await result.toolCalls).map((call) => [call.toolName, call.input]);
}

main({
  plain: () => plain(compatible()(SMALL)),
  streamed: () => streamed(compatible()(SMALL)),
  structured: () => structured(compatible()(SMALL)),
  streamedCall: () => streamedCall(compatible()(SMALL)),
  toolRound: () => toolRound(compatible()(LARGE)),

  responses: () => plain(openai.responses(SMALL)),
  responsesStreamed: () => streamed(openai.responses(SMALL)),
  responsesStructured: () => structured(openai.responses(SMALL)),
  responsesStreamedCall: () => streamedCall(openai.responses(SMALL)),
  responsesToolRound: () => toolRound(openai.responses(LARGE)),

  // What the model said comes back as a reference to the response's item.
  async responsesContinued() {
    const model = openai.responses(SMALL);
    const first = { role: "user", content: "My name is Ann." };
    const { response } = await generateText({ ...BRIEFLY, model, messages: [first] });
    const next = { role: "user", content: "What is my name? Answer with one word." };
    const { text, request } = await generateText({ ...BRIEFLY, model, messages: [first, ...response.messages, next] });
    return { text, sent: request.body.input.map((item) => item.type ?? item.role) };
  },

  chatOfOpenAI: () => plain(openai.chat(SMALL)),

  async embedded() {
    const model = compatible().textEmbeddingModel(EMBEDDER);
    return (await embedMany({ model, values: ["a cat", "a dog"], maxRetries: 0 })).embeddings.map((e) => e.length);
  },

  async unknownModel() {
    const error = await raisedBy(() => plain(compatible()("no-such-model")));
    return { isCallError: APICallError.isInstance(error), status: error.statusCode, retryable: error.isRetryable };
  },

  async wrongKey() {
    return (await raisedBy(() => plain(compatible("wrong")(SMALL)))).statusCode;
  },
});
