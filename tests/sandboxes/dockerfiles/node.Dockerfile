# Node: threads, event loop, child processes.
FROM BASE
ENV DEBIAN_FRONTEND=noninteractive APT_CONFIG=/apt/conf
RUN --mount=type=bind,source=apt,target=/apt apt-get update && apt-get install nodejs && sh /apt/clean
RUN mkdir /app && cd /app && echo 'module.exports = 42' > made.js && node -e ' \
    const fs = require("fs"), child = require("child_process"); \
    const { Worker } = require("worker_threads"); \
    const said = child.execFileSync("sh", ["-c", "echo $PPID"]).toString().trim(); \
    if (said != process.pid) throw said; \
    new Worker("require(\"worker_threads\").parentPort.postMessage(1)", { eval: true }).on("message", () => { \
        require("http").createServer((_, answer) => answer.end("served")).listen(0, "127.0.0.1", function () { \
            require("http").get({ port: this.address().port, host: "127.0.0.1" }, (answer) => answer.on("data", (data) => { \
                fs.writeFileSync("said", data + " " + require("./made") + "\n"); this.close(); process.exit(0); })); \
        }); \
    });' && test "$(cat said)" = "served 42"
