// Follows a growing log: each event carries lines; the browser comes back by itself and goes on
// where it was.
const log = document.getElementById("log");
const live = document.getElementById("live");
const source = new EventSource(log.dataset.live);

function append(event) {
  const atEnd = innerHeight + scrollY >= document.body.scrollHeight - 40;
  const text = JSON.parse(event.data).map((line) => line.text + (line.ends ? "\n" : "")).join("");
  log.append(text);
  if (atEnd) scrollTo(0, document.body.scrollHeight);
}

source.onmessage = append;
source.addEventListener("end", (event) => {
  append(event);
  source.close();
  live.textContent = "The job is over.";
  // The verdict and the steps are above; load them once.
  setTimeout(() => location.reload(), 300);
});
