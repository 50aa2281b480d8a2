// What the page shows. Whatever came from elsewhere is written as text, never as HTML.
import { Follower } from "./follower.js";

const box = document.querySelector("#image");
const status = box.querySelector("[role=status]");
const picture = box.querySelector("img");
const ok = box.querySelector("button");
const key = `session ${box.dataset.tx}`;

const follower = new Follower(box.dataset.socket, box.dataset.tx, {
  session: sessionStorage.getItem(key) ?? undefined, // the same client after a reload
  attached: () => { ok.disabled = false; },
  update: (data) => {
    status.textContent = data.says;
    if (data.image) {
      picture.src = URL.createObjectURL(new Blob([data.image.bytes], { type: data.image.kind }));
      picture.hidden = false;
    }
  },
  stored: () => { status.textContent = "Your OK is on its way ..."; },
  rejected: (message) => { status.textContent = message; ok.disabled = false; },
  lost: () => { status.textContent = "It isn't known whether your OK arrived."; ok.disabled = false; },
  away: () => { ok.disabled = true; },
  end: (end) => {
    ok.disabled = true;
    status.textContent = end.status === "finished" ? "Done." : `${end.status}: ${end.error?.message ?? ""}`;
  },
  failed: (message) => { ok.disabled = true; status.textContent = message; },
});
sessionStorage.setItem(key, follower.session);
ok.addEventListener("click", () => { ok.disabled = true; follower.send("OK"); });
