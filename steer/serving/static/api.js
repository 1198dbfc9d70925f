/* Requests to the server, and streams of its events. */

const KEY = "steer-key";

export function remember(key) {
  sessionStorage.setItem(KEY, key);
}

function headers() {
  const key = sessionStorage.getItem(KEY);
  return key ? { authorization: `Bearer ${key}` } : {};
}

async function answer(response) {
  if (response.ok) return response;
  let message = `the server answered ${response.status}`;
  try {
    message = (await response.json()).error.message;
  } catch {
    /* what answered is no server of ours */
  }
  throw Object.assign(new Error(message), { status: response.status });
}

export async function get(path) {
  return (await answer(await fetch(path, { headers: headers() }))).json();
}

function send(path, body, signal) {
  const kind = { "content-type": "application/json" };
  const what = { method: "POST", body: JSON.stringify(body), signal };
  return fetch(path, { ...what, headers: { ...headers(), ...kind } }).then(answer);
}

export async function post(path, body) {
  return (await send(path, body)).json();
}

/* Yields the events of a completion, until its end or until `signal` stops it. */
export async function* stream(body, signal) {
  const response = await send("/v1/completions", { ...body, stream: true }, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (held + value).split("\n\n");
    held = lines.pop();
    for (const line of lines) {
      const data = line.replace(/^data: /, "");
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new Error(event.error.message);
      yield event;
    }
  }
}
