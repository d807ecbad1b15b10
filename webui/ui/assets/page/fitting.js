// How the picture to start from comes to the size asked for; `webui/generation/canvas.py` does it.

const STEP = 8;

/**
 * Where a picture of that size lies within the one to be made. `whole` is that one's size and `inner`
 * the part without its margins, `cut` what is seen of the picture in its own pixels, `scale` how much
 * larger it becomes. Null where the request makes no sense; `longest` is the longest side allowed.
 */
export function placed(request, picture, longest) {
  const [left, top, right, bottom] = request.outpaint;
  const across = left + right;
  const down = top + bottom;
  let width = request.width === null ? null : request.width - across;
  let height = request.height === null ? null : request.height - down;
  if (width === null && height === null) {
    const scale = Math.min(1, (longest - across) / picture.width, (longest - down) / picture.height);
    [width, height] = [rounded(picture.width * scale), rounded(picture.height * scale)];
  }
  width ??= rounded(picture.width * height / picture.height);
  height ??= rounded(picture.height * width / picture.width);
  if (!(width > 0 && height > 0)) return null;
  const scale = Math.max(width / picture.width, height / picture.height);
  const cut = { width: width / scale, height: height / scale };
  return {
    inner: { width, height },
    whole: { width: width + across, height: height + down },
    cut: { x: (picture.width - cut.width) / 2, y: (picture.height - cut.height) / 2, ...cut },
    scale,
  };
}

/** The nearest side that a picture can have. */
export function rounded(side) {
  return Math.round(side / STEP) * STEP;
}
