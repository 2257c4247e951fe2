"""The command line: one small file for each command, talk on stderr, data on stdout.

`quick` answers what needs no command, `commands` lists them, `app` runs them and `tab` speaks with shells. `arguments`
lets the global options stand anywhere, `settings` is what they amount to, `drive` runs one flow to its end, `render`
and `live` show it to people and `lines` to programs, `errors` says what went wrong and what fixes it. Nothing heavy
(trio, httpx) is imported before a command needs it.
"""
