// Where workspaces lie: everyone amid those below it, a circle around each team, organisations side by side.
// The same workspaces always come to lie in the same places.

import { packEnclose, packSiblings } from "../vendor.js";

/** The radius of a workspace's disc. */
export const DISC = 26;
/** Room between discs, for edges and names. */
const GAP = 24;
/** Room between a team and the circle around it. */
const EDGE = 20;

/**
 * `nodes`: by id, `{ id, x, y, r, workspace, leads }`. `teams`: circles around those who have somebody below them, outermost first,
 * `{ id, name, x, y, r, depth }`. `bounds`: the box around all, `{ x, y, width, height }` about its middle. `tall`: whether there is more
 * room below than beside.
 */
export function arrange(workspaces, tall) {
  const below = childrenOf(workspaces);
  const scene = { nodes: new Map(), teams: [], bounds: { x: 0, y: 0, width: 1, height: 1 } };
  const organisations = below.get(null).map((root) => team(root, below, new Set()));
  organisations.sort((one, other) => other.r - one.r);
  const places = organisations.map(({ r }) => ({ r: r + GAP }));
  packSiblings(places);
  if (tall) places.forEach((place) => Object.assign(place, { x: place.y, y: place.x }));
  organisations.forEach((organisation, index) => settle(organisation, places[index].x, places[index].y, 0, scene));
  if (places.length) scene.bounds = box(places);
  return scene;
}

function box(circles) {
  const least = (member) => Math.min(...circles.map((circle) => circle[member] - circle.r));
  const most = (member) => Math.max(...circles.map((circle) => circle[member] + circle.r));
  const [left, right, top, bottom] = [least("x"), most("x"), least("y"), most("y")];
  return { x: (left + right) / 2, y: (top + bottom) / 2, width: right - left, height: bottom - top };
}

/** Who is below whom, oldest first; under `null` those at the top, or whose parent cannot be seen. */
function childrenOf(workspaces) {
  const below = new Map([[null, []]]);
  const oldestFirst = [...workspaces.values()].sort((one, other) => one.created_at.localeCompare(other.created_at) || one.id.localeCompare(other.id));
  for (const workspace of oldestFirst) {
    const parent = workspaces.has(workspace.parent_id) && workspace.parent_id !== workspace.id ? workspace.parent_id : null;
    if (!below.has(parent)) below.set(parent, []);
    below.get(parent).push(workspace);
  }
  return below;
}

// A workspace and all below it, about its own middle.
function team(workspace, below, above) {
  const line = new Set(above).add(workspace.id);
  const members = (below.get(workspace.id) ?? []).filter(({ id }) => !line.has(id)).map((child) => team(child, below, line));
  if (members.length === 0) return { workspace, members, r: DISC };
  const places = closest(members);
  members.forEach((member, index) => Object.assign(member, { x: places[index].x, y: places[index].y }));
  const around = packEnclose([{ x: 0, y: 0, r: DISC }, ...members]);
  return { workspace, members, r: around.r + EDGE, shift: { x: -around.x, y: -around.y } };
}

// Places around a middle: rings are the clearest. Where members are of many sizes rings are mostly empty, and they are packed instead.
function closest(members) {
  const leaders = members.filter(({ members: inner }) => inner.length > 0).length;
  members.sort((one, other) => one.r - other.r);
  const ringed = rings(members);
  if (leaders === 0) return ringed;
  const biggestFirst = members.toReversed();
  const packed = [0, Math.min(leaders, 2), leaders].map((place) => pack(biggestFirst, place).reverse());
  const radius = (places) => packEnclose([{ x: 0, y: 0, r: DISC }, ...places]).r;
  const tightest = packed.reduce((one, other) => (radius(other) < 0.97 * radius(one) ? other : one));
  return radius(tightest) < 0.9 * radius(ringed) ? tightest : ringed;
}

/** Places as close as they fit, given in this order; the middle is the one at `place` among them. */
function pack(members, place) {
  const circles = members.map(({ r }) => ({ r: r + GAP / 2 }));
  const middle = { r: DISC + GAP / 2 };
  packSiblings(circles.toSpliced(place, 0, middle));
  return circles.map(({ x, y, r }) => ({ x: x - middle.x, y: y - middle.y, r: r - GAP / 2 }));
}

/** Places on rings around a middle, the first ones inside, each ring evenly filled. */
function rings(members) {
  const places = [];
  let inside = DISC;
  while (places.length < members.length) {
    const first = places.length;
    const [last, distance] = ring(members, first, inside);
    const angles = members.slice(first, last).map(({ r }) => 2 * Math.asin((r + GAP / 2) / distance));
    const spare = (2 * Math.PI - angles.reduce((sum, angle) => sum + angle, 0)) / angles.length;
    let at = -Math.PI / 2 - angles[0] / 2;
    angles.forEach((angle, index) => {
      at += (angle + spare) / 2;
      places.push({ x: distance * Math.cos(at), y: distance * Math.sin(at), r: members[first + index].r });
      at += (angle + spare) / 2;
    });
    inside = distance + members[last - 1].r;
  }
  return places;
}

// How many from `first` on fit on a ring around what is inside, and how far out it is: as far as its largest member needs.
function ring(members, first, inside) {
  let last = first;
  let distance = inside;
  let angle = 0;
  while (last < members.length) {
    const wider = Math.max(distance, inside + GAP + members[last].r);
    const taken = members.slice(first, last + 1).reduce((sum, { r }) => sum + 2 * Math.asin(Math.min(1, (r + GAP / 2) / wider)), 0);
    if (last > first && taken > 2 * Math.PI) break;
    distance = wider;
    angle = taken;
    last += 1;
  }
  // Few around a middle keep some distance of each other, not only of it.
  return [last, angle > 2 * Math.PI ? distance * 1.1 : Math.max(distance, inside + GAP + 10 + members[last - 1].r)];
}

function settle({ workspace, members, r, shift = { x: 0, y: 0 } }, x, y, depth, scene) {
  const middle = { x: x + shift.x, y: y + shift.y };
  if (members.length) scene.teams.push({ id: workspace.id, name: workspace.name, x, y, r, depth });
  scene.nodes.set(workspace.id, { id: workspace.id, x: middle.x, y: middle.y, r: DISC, workspace, leads: members.length > 0 });
  for (const member of members) settle(member, middle.x + member.x, middle.y + member.y, depth + 1, scene);
}
