"""The token in the query of a WebSocket, taken out before anything can write it down.

The filter of tokens would do so too, but only with a good one: the refused one
would be in the trace (trap 9), and it may be good elsewhere.
"""

from .config import Config, extension

FILTER = "interchange.query_token"
MESSAGE = "envoy.extensions.filters.http.lua.v3.Lua"
PARAMETER = "access_token"
HEADER = "x-interchange-token"
"""Where the token goes; callers can't set it, and no service sees it."""

SOURCE = f"""
function envoy_on_request(handle)
  local headers = handle:headers()
  local path, query = headers:get(":path"):match("^([^?]*)%?(.*)$")
  if not query then return end
  local kept, token = {{}}, ""
  for part in query:gmatch("[^&]+") do
    local value = part:match("^{PARAMETER}=(.*)$")
    if value then token = value else kept[#kept + 1] = part end
  end
  headers:replace(":path", #kept > 0 and path .. "?" .. table.concat(kept, "&") or path)
  if token ~= "" then headers:replace("{HEADER}", token) end
end
"""


def query_token() -> Config:
    """Return the filter; the route of the WebSocket turns it on."""
    source = {"inline_string": SOURCE}
    return {**extension(FILTER, MESSAGE, default_source_code=source), "disabled": True}
