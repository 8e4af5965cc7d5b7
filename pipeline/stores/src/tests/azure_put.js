// node -e "$(cat azure_put.js)" PORT PATH KEY: makes the container PATH on Azurite by a signed request, or, where PATH has a `/`, an
// empty blob of any name.
const [port, path, key] = process.argv.slice(1), date = new Date().toUTCString(), isContainer = !path.includes("/");
const query = isContainer ? "?restype=container" : "";
const headers = { "x-ms-date": date, "x-ms-version": "2021-08-06", "content-length": 0 };
if (!isContainer) headers["x-ms-blob-type"] = "BlockBlob";
const lines = Object.keys(headers).filter((n) => n.startsWith("x-ms")).sort().map((n) => `${n}:${headers[n]}`);
const resource = `/devstoreaccount1/devstoreaccount1/${path}` + (isContainer ? "\nrestype:container" : "");
const text = ["PUT", ...Array(11).fill(""), ...lines, resource].join("\n");
const sign = require("crypto").createHmac("sha256", Buffer.from(key, "base64")).update(text).digest("base64");
headers.authorization = `SharedKey devstoreaccount1:${sign}`;
const options = { port, host: "127.0.0.1", method: "PUT", path: `/devstoreaccount1/${path}${query}`, headers };
require("http").request(options, (r) => process.exit(r.statusCode === 201 ? 0 : 1)).end();
