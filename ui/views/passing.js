// Which way a line of the pipeline's graph takes by the boxes of a column.

export const [HEIGHT, GAP_Y] = [52, 16];

/** The height nearest to `y` at which a line meets none of these boxes. @param {number} y @param {{ y: number }[]} boxes */
export function passing(y, boxes) {
  const met = boxes.find((box) => y > box.y - GAP_Y / 2 && y < box.y + HEIGHT + GAP_Y / 2);
  if (!met) return y;
  const [above, below] = [met.y - GAP_Y / 2, met.y + HEIGHT + GAP_Y / 2];
  return y - above < below - y ? above : below;
}
