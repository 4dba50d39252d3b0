/* The memory limit is on records of cleanups, finalizers and weak links, too, which may take several times as much as their objects.  Where
 * these lie in pages that the heap has had before, nothing but the records grows: collections follow them all the same. */
#include "support/heap_test.h"

#define LIMIT_BYTES ((size_t)16 << 20)
#define SLACK_BYTES ((size_t)2 << 20)

enum { OBJECTS = 1000000, OBJECT_BYTES = 16, BLOCKS = 1000, BLOCK_BYTES = 8000, LOOK = 4096 };

static void do_nothing(void *unused) { (void)unused; }

/* The heap has memory to use again. */
NOINLINE_TEST static void grow_and_drop(void) {
  void **volatile list = NULL;
  for (size_t i = 0; i < BLOCKS; i++) {
    void **block = midden_alloc(BLOCK_BYTES);
    REQUIRE(block != NULL, "no memory");
    block[0] = list;
    list = block;
  }
  list = NULL;
}

NOINLINE_TEST static void add_cleanup(void) {
  void *object = midden_alloc(OBJECT_BYTES);
  REQUIRE(object != NULL && midden_cleanup_add(object, do_nothing, NULL, NULL) == 0, "no memory");
}

int main(void) {
  test_start("unit/limit_specials");
  struct midden_options options = {
      .size = sizeof options, .mode = MIDDEN_MODE_STW, .memory_limit_bytes = LIMIT_BYTES, .idle_collect_ms = -1};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  grow_and_drop();
  test_collect_clean();
  size_t most = 0, most_specials = 0;
  for (size_t i = 0; i < OBJECTS; i++) {
    add_cleanup();
    if (i % LOOK != 0) continue;
    midden_finalizers_run(SIZE_MAX);
    struct midden_stats stats = test_stats();
    size_t bytes = stats.heap_in_use + stats.stacks + stats.metadata;
    if (bytes > most) most = bytes;
    if (stats.metadata_specials > most_specials) most_specials = stats.metadata_specials;
  }
  struct midden_stats stats = test_stats();
  printf("unit/limit_specials: %zu bytes at most, %zu of them records, %" PRIu64 " collections\n", most, most_specials,
         stats.collections);
  REQUIRE(stats.limit_yields != 0 || most <= LIMIT_BYTES + SLACK_BYTES, "%zu bytes", most);
  return 0;
}
