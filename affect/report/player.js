"use strict";
// A page without curves: says where the browser cannot play the video.
(() => {
  const video = document.getElementById("video");
  if (!video) return;
  const give = () => { document.getElementById("unplayable").hidden = false; document.getElementById("screen").hidden = true; };
  video.addEventListener("error", give);
  video.addEventListener("loadedmetadata", () => { if (!video.videoWidth) give(); });
  if (video.error || (video.readyState > 0 && !video.videoWidth)) give();
})();
