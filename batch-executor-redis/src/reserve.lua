-- The generic cell rate algorithm in one key: when the schedule is free again, in microseconds on this server's clock. While a pause goes on,
-- three more numbers say how to end it: when it ends, when the schedule would be free without it, and how much was taken in pauses that
-- it has lengthened.
-- ARGV: for how long it is to be held back from now on; how much of it is taken; how much of that is the last permit's; how far permits may
-- run ahead of it; whether a pause is to end.
-- Returns how long it is until the last permit may be used.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local hold, take, last, slack, resumes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5] == '1'
local kept = {}
for word in string.gmatch(redis.call('GET', KEYS[1]) or '', '%S+') do
    kept[#kept + 1] = tonumber(word) or error('the key holds something else: ' .. word)
end
local free_at, ends, base, before = math.max(kept[1] or now, now), kept[2] or 0, kept[3] or 0, kept[4] or 0
if hold > 0 and now + hold > free_at then
    if ends > now then
        before = before + free_at - ends
    else
        base, before = free_at, 0
    end
    free_at, ends = now + hold, now + hold
elseif resumes and ends > now + slack then
    free_at = math.max(base, now + slack) + before + free_at - ends
    ends = now
end
free_at = free_at + take
local text = string.format('%.0f', free_at)
if ends > now then
    text = string.format('%.0f %.0f %.0f %.0f', free_at, ends, base, before)
end
-- A key that has run out says the same as none: free now. '%.0f', since numbers are printed with 14 digits otherwise.
redis.call('SET', KEYS[1], text, 'PX', math.ceil((free_at - now) / 1000) + 1)
return math.max(free_at - last - slack - now, 0)
