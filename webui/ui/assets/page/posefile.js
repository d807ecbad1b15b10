// Poses as files: OpenPose's JSON, which the server reads and writes.

import { ask, downloadText } from "./dom.js";
import { fitted, unfolded } from "./posebody.js";
import { standing } from "./posestock.js";

/** The people in a file on a canvas of that size, and a sentence for each thing that is not as in the file. */
export async function readPose(file, size) {
  const { pose, report } = await ask(`poses/read?width=${size.width}&height=${size.height}`, { method: "POST", body: file });
  const like = standing(size);
  return { people: fitted(pose.people, pose, size).map((person) => unfolded(person, like)), report };
}

/** Saves a pose as a file. */
export async function writePose(pose) {
  const written = await ask("poses/write", { method: "POST", json: pose });
  downloadText(JSON.stringify(written), "application/json", `pose-${pose.width}x${pose.height}.json`);
}
