// The cases of one client, each tried by itself.

export const {
  POINTSMAN_URL: URL,
  POINTSMAN_KEY: KEY,
  POINTSMAN_SMALL: SMALL,
  POINTSMAN_LARGE: LARGE,
  POINTSMAN_EMBEDDER: EMBEDDER,
} = process.env;

export const FRANCE = "What is the capital of France? Answer with one word.";
export const ANN = "Ann is 30 years old.";
export const WEATHER = "What is the weather in Paris?";
// Without it, both models call the tool again and again.
export const ONCE = "Use a function at most once. When its result is there, answer the user in one sentence.";

// Print as JSON what each of the functions in `cases` returned or raised.
export async function main(cases) {
  const outcomes = {};
  for (const [name, run] of Object.entries(cases)) {
    if (process.argv.length > 2 && !process.argv.includes(name)) continue;
    try {
      outcomes[name] = { returned: await run() };
    } catch (error) {
      outcomes[name] = { raised: `${error.stack}\n${JSON.stringify(error, null, 2)}` };
    }
  }
  console.log(JSON.stringify(outcomes));
}

// What `run` raises.
export async function raisedBy(run) {
  try {
    await run();
  } catch (error) {
    return error;
  }
  throw new Error("nothing was raised");
}
