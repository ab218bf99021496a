// The pipeline's graph: which way lines take.

import assert from "node:assert/strict";
import test from "node:test";
import { passing } from "../../../ui/views/passing.js";

test("a line meets no box on its way", () => {
  const boxes = [{ y: 0 }, { y: 68 }, { y: 136 }];
  assert.equal(passing(-20, boxes), -20);
  assert.equal(passing(10, boxes), -8);
  assert.equal(passing(40, boxes), 60);
  assert.equal(passing(94, boxes), 128);
  assert.equal(passing(60, boxes), 60);
  assert.equal(passing(500, boxes), 500);
  for (let y = -50; y < 250; y++) assert.ok(boxes.every((box) => passing(y, boxes) <= box.y - 8 || passing(y, boxes) >= box.y + 60), String(y));
});
