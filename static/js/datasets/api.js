// REST calls of the editor. Every refusal becomes an Error whose message can be shown.

export class Refusal extends Error {
  constructor(status, problem) {
    super(problem.detail || "That did not work. Try again.");
    this.status = status;
    this.code = problem.code;
    this.retryAfter = Number(problem.retry_after) || 0;
  }
}

export async function call(method, url, body, headers = {}) {
  let answer;
  try {
    answer = await fetch(url, {
      method,
      headers: body === undefined ? headers : { "Content-Type": "application/json", ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Refusal(0, { code: "offline", detail: "There is no connection. Your change was not saved." });
  }
  return read(answer.status, await answer.text());
}

export function read(status, text) {
  let body = {};
  try {
    body = text ? JSON.parse(text) : {};
  } catch {
    body = { detail: text.slice(0, 300) };
  }
  if (status === 401) throw new Refusal(status, { code: "login", detail: "You were logged out. Log in again in another tab, then go on here." });
  if (status >= 400 || status === 0) throw new Refusal(status, body);
  return body;
}
