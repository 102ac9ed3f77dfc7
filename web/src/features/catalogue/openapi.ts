/** As much of an OpenAPI 3 document as the try-out needs. What is not as it should be is left out. */

export interface OpenApi {
  paths?: Record<string, Record<string, unknown>>;
  components?: Record<string, unknown>;
}

export interface Parameter {
  name: string;
  in: "path" | "query" | "header";
  required: boolean;
  description: string;
}

export interface Operation {
  id: string;
  method: string;
  path: string;
  summary: string;
  parameters: readonly Parameter[];
  /** Of a JSON body, to begin from; undefined: it has none. */
  body: string | undefined;
}

const METHODS = ["get", "post", "put", "patch", "delete", "head", "options"];

type Node = Record<string, unknown>;
const isNode = (value: unknown): value is Node => typeof value === "object" && value !== null && !Array.isArray(value);
const text = (value: unknown): string => (typeof value === "string" ? value : "");

export function operationsOf(document: OpenApi): readonly Operation[] {
  return Object.entries(document.paths ?? {}).flatMap(([path, item]) =>
    METHODS.flatMap((method) => {
      const told = isNode(item) ? item[method] : undefined;
      if (!isNode(told)) return [];
      const parameters = [...list(item["parameters"]), ...list(told["parameters"])].flatMap((each) => parameterOf(resolved(document, each)));
      return [{ id: `${method} ${path}`, method: method.toUpperCase(), path, summary: text(told["summary"]) || text(told["operationId"]), parameters, body: bodyOf(document, told) }];
    }),
  );
}

const list = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);

/** Follows a reference within the document, once. */
function resolved(document: OpenApi, value: unknown): unknown {
  const reference = isNode(value) ? text(value["$ref"]) : "";
  if (!reference.startsWith("#/")) return value;
  return reference
    .slice(2)
    .split("/")
    .map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"))
    .reduce<unknown>((found, part) => (isNode(found) ? found[part] : undefined), document);
}

function parameterOf(value: unknown): Parameter[] {
  if (!isNode(value)) return [];
  const place = value["in"];
  if (place !== "path" && place !== "query" && place !== "header") return [];
  return [{ name: text(value["name"]), in: place, required: value["required"] === true || place === "path", description: text(value["description"]) }];
}

function bodyOf(document: OpenApi, operation: Node): string | undefined {
  const body = resolved(document, operation["requestBody"]);
  if (!isNode(body) || !isNode(body["content"])) return undefined;
  const json = Object.entries(body["content"]).find(([type]) => type.includes("json"))?.[1];
  if (!isNode(json)) return "";
  const given = json["example"] ?? example(document, json["schema"], 0);
  return JSON.stringify(given ?? {}, null, 2);
}

/** A value that fits a schema: its own example, else one made of its parts. */
function example(document: OpenApi, schema: unknown, depth: number): unknown {
  const node = resolved(document, schema);
  if (!isNode(node) || depth > 5) return null;
  if (node["example"] !== undefined) return node["example"];
  if (node["default"] !== undefined) return node["default"];
  if (Array.isArray(node["enum"])) return node["enum"][0];
  if (isNode(node["properties"])) {
    return Object.fromEntries(Object.entries(node["properties"]).map(([name, each]) => [name, example(document, each, depth + 1)]));
  }
  switch (node["type"]) {
    case "array":
      return [example(document, node["items"], depth + 1)];
    case "integer":
    case "number":
      return 0;
    case "boolean":
      return false;
    case "string":
      return "";
    default:
      return {};
  }
}

/** The path at the gateway with its parameters and query in place. `prefix`: what the route claims; documents often leave it to the server's address. */
export function address(operation: Operation, values: Readonly<Record<string, string>>, prefix: string): string {
  const before = prefix.replace(/\/$/, "");
  const path = (operation.path.startsWith(`${before}/`) || operation.path === before ? "" : before) + operation.path.replaceAll(/\{([^}]+)\}/g, (_, name: string) => encodeURIComponent(values[`path ${name}`] ?? ""));
  const query = operation.parameters.flatMap(({ in: place, name }) => {
    const value = values[`query ${name}`];
    return place === "query" && value ? [`${encodeURIComponent(name)}=${encodeURIComponent(value)}`] : [];
  });
  return query.length > 0 ? `${path}?${query.join("&")}` : path;
}
