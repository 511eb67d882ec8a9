"""Runs a WASI program that writes to its own output: `wasi.py PROGRAM`."""
import sys

import wasmtime

engine, settings = wasmtime.Engine(), wasmtime.WasiConfig()
settings.inherit_stdout()
settings.inherit_stderr()
store, linker = wasmtime.Store(engine), wasmtime.Linker(engine)
store.set_wasi(settings)
linker.define_wasi()
instance = linker.instantiate(store, wasmtime.Module.from_file(engine, sys.argv[1]))
instance.exports(store)["_start"](store)
