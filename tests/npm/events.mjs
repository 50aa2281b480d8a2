// node events.mjs URL: what npm's EventSource, which does as a browser's, is told, a line each; ends with the end.
import { EventSource } from "eventsource";

const source = new EventSource(process.argv[2]);
const tell = ({ type, data, lastEventId }) => console.log(JSON.stringify({ type, id: lastEventId, data: JSON.parse(data) }));
for (const type of ["attached", "update", "reset", "rejected"]) source.addEventListener(type, tell);
source.addEventListener("end", (event) => {
  tell(event);
  source.close();
});
source.addEventListener("error", (event) => {
  if (event.data) return tell(event);
  console.log(JSON.stringify({ type: "broken", code: event.code ?? null }));
  if (source.readyState === EventSource.CLOSED) process.exit(1);
});
