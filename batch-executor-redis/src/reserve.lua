-- The generic cell rate algorithm in one key: when the schedule is free again, in microseconds on this server's clock.
-- ARGV: for how long it is to be held back from now on; how much of it is taken; how far permits may run ahead of it.
-- Returns how long it is until the permit may be used.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local free_at = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now + ARGV[1])
local next_free = free_at + ARGV[2]
-- A key that has run out says the same as none: free now. '%.0f', since numbers are printed with 14 digits otherwise.
redis.call('SET', KEYS[1], string.format('%.0f', next_free), 'PX', math.ceil((next_free - now) / 1000) + 1)
return math.max(free_at - ARGV[3] - now, 0)
