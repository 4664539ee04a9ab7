-- For wrk: GETs with ten thousand different keys, made once.

local requests = {}
local at = 0

function init()
  math.randomseed(tonumber(tostring({}):match("0x(%x+)"), 16) % 2147483647)
  for i = 1, 10000 do
    requests[i] = wrk.format("GET", "/", { ["x-user-id"] = "user-" .. math.random(1000000) })
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end
