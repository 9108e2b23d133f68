// Cells of the notebook that a widget stands in, as far as the front end lets a widget at them. Needs nothing.

/**
 * Put a code cell with `text` below the cell that holds `el`, and the cursor into it; false where that cannot be done.
 *
 * JupyterLab and Notebook 7 give a widget's manager the document it belongs to. Others do not: then say what to type.
 */
function cellBelow(model, el, text) {
  const notebook = model.widget_manager?.context?.model?.sharedModel;
  if (typeof notebook?.insertCell !== "function") return false;
  const place = Number(el.closest(".jp-Cell")?.dataset.windowedListIndex ?? NaN);
  const index = Number.isInteger(place) ? place + 1 : notebook.cells.length;
  try {
    notebook.insertCell(index, { cell_type: "code", source: text, metadata: { trusted: true } });
  } catch {
    return false;
  }
  enterCell(el, index, 40);
  return true;
}

/** Cells are drawn a little later, and only those in sight. */
function enterCell(el, index, tries) {
  const cell = document.querySelector(`.jp-Notebook .jp-Cell[data-windowed-list-index="${index}"] .cm-content`);
  if (cell) {
    cell.scrollIntoView({ block: "nearest" });
    cell.focus();
  } else if (tries > 0) {
    setTimeout(() => enterCell(el, index, tries - 1), 50);
  }
}
