# nix: an evaluator of a lazy language that takes its cells from free lists and turns interior pointers off.
# stress: 300
command -v nix-instantiate >/dev/null || exit 77
NIX_STORE_DIR=$PWD/store NIX_STATE_DIR=$PWD/state NIX_LOCALSTATE_DIR=$PWD/state
NIX_LOG_DIR=$PWD/log NIX_CONF_DIR=$PWD/conf NIX_REMOTE=
GC_INITIAL_HEAP_SIZE=4M # its own default is so large that nothing is ever collected
export NIX_STORE_DIR NIX_STATE_DIR NIX_LOCALSTATE_DIR NIX_LOG_DIR NIX_CONF_DIR NIX_REMOTE GC_INITIAL_HEAP_SIZE
nix-instantiate --store dummy:// --eval --strict "$SOURCES/nix.nix"
