// The generator: its parts are in generator/, each for itself; the form may be replaced by the server's drawing.

import { hasPointer, theForm } from "./generator/dom.js";
import { attachFooter, initFooter } from "./generator/footer.js";
import { onForm, remember, start } from "./generator/memory.js";
import { initPicker } from "./generator/picker.js";
import { attachPrompt, initPrompt } from "./generator/prompt.js";
import { initQueue } from "./generator/queue.js";
import { initReading } from "./generator/reading.js";
import { attachSettings, initSettings } from "./generator/settings.js";
import { initStart } from "./generator/start.js";

const form = theForm();

if (form) {
  for (const attach of [attachPrompt, attachSettings, attachFooter]) onForm(attach);
  for (const init of [initPicker, initPrompt, initSettings, initStart, initReading, initFooter, initQueue]) init();
  start(form);
  remember(form).then(() => {
    // On a phone focus would open the keyboard over the pictures.
    if (hasPointer()) theForm().elements.prompt.focus({ preventScroll: true });
  });
}
