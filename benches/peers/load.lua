-- The requests wrk sends, and its result as one line of JSON.
-- Called by cases.py as: wrk ... -s load.lua URL -- PREFIX COUNT
-- It asks for COUNT distinct paths in turn, all prepared before the clock starts.

local requests = {}
local at = 0

function init(args)
    local prefix, count = args[1], tonumber(args[2])
    for n = 1, count do
        requests[n] = wrk.format("GET", prefix .. n)
    end
end

function request()
    at = at % #requests + 1
    return requests[at]
end

function done(summary, latency)
    local e = summary.errors
    io.write(string.format(
        '{"requests":%d,"bytes":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,'
            .. '"errors":{"connect":%d,"read":%d,"write":%d,"timeout":%d,"status":%d}}\n',
        summary.requests, summary.bytes, summary.duration,
        latency:percentile(50), latency:percentile(99),
        e.connect, e.read, e.write, e.timeout, e.status))
end
