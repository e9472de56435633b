-- One good binary event of 1 KiB after another, for wrk.
local n = 0
local body = '{"pad":"' .. string.rep("x", 1014) .. '"}'
request = function()
  n = n + 1
  return wrk.format("POST", nil, {["ce-specversion"]="1.0",["ce-id"]=tostring(n),["ce-source"]="/loadtest/source",["ce-type"]="com.example.loadtest",["ce-time"]="2024-05-06T07:08:09.123Z",["ce-subject"]="s",["content-type"]="application/json"}, body)
end
