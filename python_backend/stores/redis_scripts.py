"""What Redis does in one step: scripts, each of which is all or nothing and reaches the AOF as one.

A script that fails half-way is not rolled back, so each looks at everything first and writes afterwards.
"""

from __future__ import annotations

COMMIT = """
-- Write records and log events, unless somebody changed what the new records were made from.
-- KEYS: log, ids, then for each user: record, events
-- ARGV: users, then for each user: SHA-1 of the record that was read ('' for none), how many events of the
--       user were read ('' where that does not matter), the new record ('' for none);
--       then for each event: number of its user, event id, event
-- Gives 1, or 0 where nothing was written.
local log, ids = KEYS[1], KEYS[2]
local users = tonumber(ARGV[1])
for user = 1, users do
  local found = redis.call('MGET', KEYS[2 * user + 1])[1]
  if (found and redis.sha1hex(found) or '') ~= ARGV[3 * user - 1] then return 0 end
  local events = redis.call('LLEN', KEYS[2 * user + 2])
  if ARGV[3 * user] ~= '' and events ~= tonumber(ARGV[3 * user]) then return 0 end
end
local first = 3 * users + 2
redis.call('XLEN', log)
redis.call('HLEN', ids)
for at = first, #ARGV, 3 do
  if redis.call('HEXISTS', ids, ARGV[at + 1]) == 1 then return 0 end
end
for user = 1, users do
  local record = ARGV[3 * user + 1]
  if record == '' then
    redis.call('DEL', KEYS[2 * user + 1])
  else
    redis.call('SET', KEYS[2 * user + 1], record)
  end
end
for at = first, #ARGV, 3 do
  local position = redis.call('XADD', log, '*', 'event', ARGV[at + 2])
  redis.call('HSET', ids, ARGV[at + 1], position)
  redis.call('RPUSH', KEYS[2 * tonumber(ARGV[at]) + 2], ARGV[at + 2])
end
return 1
"""

FORGET = """
-- Remove users with all their events.
-- KEYS: log, ids, forgotten, then for each user: record, events
-- ARGV: unix seconds, the place and the length of an event's id in its bytes, then for each user: user id
-- Gives for each user 1 where there was something, else 0.
local log, ids, forgotten = KEYS[1], KEYS[2], KEYS[3]
local begin, length = tonumber(ARGV[2]), tonumber(ARGV[3])
local answers = {}
redis.call('XLEN', log)
redis.call('HLEN', ids)
redis.call('HLEN', forgotten)
for user = 1, #ARGV - 3 do redis.call('LLEN', KEYS[2 * user + 3]) end
for user = 1, #ARGV - 3 do
  local record, events = KEYS[2 * user + 2], KEYS[2 * user + 3]
  for _, event in ipairs(redis.call('LRANGE', events, 0, -1)) do
    local id = string.sub(event, begin + 1, begin + length)
    local position = redis.call('HGET', ids, id)
    if position then redis.call('XDEL', log, position) end
    redis.call('HDEL', ids, id)
  end
  answers[user] = redis.call('DEL', record, events) > 0 and 1 or 0
  redis.call('HSET', forgotten, ARGV[user + 3], ARGV[1])
end
return answers
"""
