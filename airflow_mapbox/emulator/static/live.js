// Refreshes the lists every second: fetches the page again and replaces its content.
const main = document.querySelector("main");
setInterval(async () => {
  try {
    const response = await fetch(location.href, { cache: "no-store" });
    const newMain = new DOMParser().parseFromString(await response.text(), "text/html").querySelector("main");
    if (newMain.innerHTML !== main.innerHTML) main.innerHTML = newMain.innerHTML;
  } catch {
    // The emulator was stopped. The page still shows the last state.
  }
}, 1000);
