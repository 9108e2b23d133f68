// Editing a JSON value that has a schema: what can be seen at once is said in place, the rest says the kernel.
// Needs dom.js.

/** A value to begin with: the schema's defaults, and empty ones for what it requires. */
function skeleton(schema, root = schema) {
  const it = resolved(schema, root);
  if (it.default !== undefined) return it.default;
  if (it.type === "object" || it.properties) {
    const required = new Set(it.required ?? []);
    const parts = Object.entries(it.properties ?? {}).filter(([k, v]) => required.has(k) || v.default !== undefined);
    return Object.fromEntries(parts.map(([key, part]) => [key, skeleton(part, root)]));
  }
  return { array: [], string: "", integer: 0, number: 0, boolean: false }[it.type] ?? null;
}

function resolved(schema, root) {
  const name = schema?.$ref?.match(/^#\/\$defs\/(.+)$/)?.[1];
  return (name ? root.$defs?.[name] : schema) ?? {};
}

/** What is wrong with a value, in a line; "" if nothing can be seen from here. */
function misfit(value, schema, root = schema, at = "") {
  const it = resolved(schema, root);
  const where = at ? `${at}: ` : "";
  const type = Array.isArray(value) ? "array" : value === null ? "null" : typeof value;
  const whole = type === "number" && Number.isInteger(value);
  if (typeof it.type === "string" && it.type !== type && !(it.type === "integer" && whole))
    return `${where}must be ${it.type}, and is ${type}`;
  if (it.enum && !it.enum.includes(value)) return `${where}must be one of ${it.enum.join(", ")}`;
  if (type === "object") {
    for (const key of it.required ?? []) if (!(key in value)) return `${where}${key} is missing`;
    for (const [key, part] of Object.entries(value)) {
      const known = it.properties?.[key];
      if (known) {
        const wrong = misfit(part, known, root, at ? `${at}.${key}` : key);
        if (wrong) return wrong;
      } else if (it.additionalProperties === false) return `${where}${key} is not known`;
    }
  }
  if (type === "array" && it.items)
    for (const [n, part] of value.entries()) {
      const wrong = misfit(part, it.items, root, `${at}[${n}]`);
      if (wrong) return wrong;
    }
  return "";
}

/** A text field for a JSON value with what is wrong with it below; `value()` is undefined as long as something is. */
class JsonEditor {
  constructor(parent, name, schema, onInput, filled = []) {
    this.schema = schema;
    this.filled = filled; // keys that the kernel fills in
    this.field = make("textarea", "fb-field", parent);
    this.field.setAttribute("aria-label", name);
    this.field.spellcheck = false;
    this.field.dataset.lmSuppressShortcuts = "true"; // or JupyterLab takes single keys for commands
    this.says = make("div", "fb-trouble", parent);
    this.says.setAttribute("role", "alert");
    const first = schema ? skeleton(schema) : {};
    for (const key of filled) if (first && typeof first === "object") delete first[key];
    this.field.value = JSON.stringify(first, null, 2);
    this.field.rows = Math.min(12, this.field.value.split("\n").length + 1);
    this.field.addEventListener("input", () => {
      this.value();
      onInput?.();
    });
  }

  value() {
    let it;
    this.says.textContent = "";
    try {
      it = JSON.parse(this.field.value);
    } catch (error) {
      this.says.textContent = `This is not JSON: ${error.message}`;
    }
    if (it !== undefined && this.schema) {
      const seen = it && typeof it === "object" && !Array.isArray(it) ? { ...it } : it;
      const parts = resolved(this.schema, this.schema).properties ?? {};
      for (const key of this.filled) if (seen && typeof seen === "object" && key in parts && !(key in seen)) seen[key] = "";
      this.says.textContent = misfit(seen, this.schema);
      if (this.says.textContent) it = undefined;
    }
    this.field.setAttribute("aria-invalid", String(it === undefined));
    return it;
  }

  tell(text) {
    this.says.textContent = text;
  }
}
