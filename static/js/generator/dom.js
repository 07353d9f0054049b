// What all parts of the generator need: the form as it is now, requests that answer in words, one voice.

export const theForm = () => document.querySelector("form[data-generator]");
export const live = (words) => {
  document.getElementById("live").textContent = words;
};
export const hasPointer = () => matchMedia("(hover: hover)").matches;

/** All fields of the form by name, as it would be sent. */
export function fieldsOf(form) {
  const fields = {};
  for (const [name, value] of new FormData(form)) if (typeof value === "string") fields[name] = value;
  return fields;
}

/** POST; gives the answer. What was refused, or a lost connection, is an Error with words for a person. */
export async function post(path, body) {
  let answer;
  try {
    answer = await fetch(path, { method: "POST", body, headers: { "HX-Request": "true", "HX-Current-URL": location.href } });
  } catch {
    throw new Error("There is no connection. Try again.");
  }
  const login = answer.headers.get("HX-Redirect");
  if (login) location.assign(login);
  if (answer.ok && !login) return answer;
  const box = document.createElement("div");
  box.innerHTML = await answer.text();
  throw new Error(box.textContent.trim() || "That did not work. Try again.");
}

export function asForm(fields) {
  const data = new FormData();
  for (const [name, value] of Object.entries(fields)) data.append(name, value);
  return data;
}

/** Set a field and let everything that listens know. */
export function setField(form, name, value) {
  const field = form.elements[name];
  if (!field) return;
  if (field.type === "checkbox") field.checked = Boolean(value);
  else field.value = value;
  const told = field instanceof RadioNodeList ? field[0] : field;
  told.dispatchEvent(new Event("input", { bubbles: true }));
  told.dispatchEvent(new Event("change", { bubbles: true }));
}
