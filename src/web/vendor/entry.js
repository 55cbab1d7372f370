// What the page uses of others' work; `build.mjs` makes ../assets/vendor.js of it.
export { render, Component, Fragment, h } from "preact";
export { useEffect, useLayoutEffect, useMemo, useReducer, useRef, useState, useCallback } from "preact/hooks";
export { packSiblings, packEnclose } from "d3-hierarchy";
export { default as Plot } from "uplot";
import { h } from "preact";
import htm from "htm";
export const html = htm.bind(h);
