/* Memory runs out: by the system's limits, by the heap's own, by the program's settings.
 *
 * Each case runs in a child, which fills the heap until an allocation fails.  Then: the allocation returned NULL, what
 * lives is intact, the program goes on, and once data is dropped allocation works again.  A child that crashes or hangs
 * fails the case. */
#include "support/heap_test.h"

#include <setjmp.h>
#include <sys/resource.h>

#include <cmocka.h>

enum { CHILD_SECONDS = 60, REFILL_TRIES = 20, FAILING_REQUESTS = 2 };

#define MIB ((size_t)1 << 20)

/* ---- filling the heap ---- */

/* Chained, so that one root keeps all of it; each block checks itself. */
struct block {
  struct block *next;
  size_t bytes;
  uint64_t seed;
  uint64_t body[];
};

static struct block *blocks; /* static data: a root */
static size_t block_count;
static size_t block_bytes;

static void block_fill(struct block *block) {
  size_t words = (block->bytes - sizeof(*block)) / 8;
  for (size_t i = 0; i < words; i++) block->body[i] = test_mix(block->seed + i) | (uint64_t)1 << 63;
}

NOINLINE_TEST static void blocks_check(void) {
  size_t count = 0;
  for (const struct block *block = blocks; block != NULL; block = block->next, count++) {
    size_t words = (block->bytes - sizeof(*block)) / 8;
    for (size_t i = 0; i < words; i++) {
      REQUIRE(block->body[i] == (test_mix(block->seed + i) | (uint64_t)1 << 63), "block %zu is damaged", count);
    }
  }
  REQUIRE(count == block_count, "%zu blocks of %zu are left", count, block_count);
}

/* Sizes from small to large, or up to `limit` only. */
static bool blocks_add(struct rng *rng, size_t limit) {
  size_t bytes = (sizeof(struct block) + rng_size(rng, limit) + 7) & ~(size_t)7;
  struct block *block = midden_alloc(bytes);
  if (block == NULL) return false;
  *block = (struct block){blocks, bytes, rng_next(rng)};
  block_fill(block);
  blocks = block;
  block_count++;
  block_bytes += bytes;
  return true;
}

/* Adds blocks until one fails, or `most_bytes` are there.  Returns whether one failed. */
NOINLINE_TEST static bool blocks_fill(struct rng *rng, size_t limit, size_t most_bytes) {
  while (block_bytes < most_bytes) {
    if (!blocks_add(rng, limit)) return true;
  }
  return false;
}

/* Takes the chain apart, so that a stale word on the stack keeps one block and not all. */
NOINLINE_TEST static void blocks_drop(void) {
  for (struct block *block = blocks, *next; block != NULL; block = next) {
    next = block->next;
    block->next = NULL;
  }
  blocks = NULL;
  block_count = block_bytes = 0;
}

/* After memory ran out: all kinds of request are answered, and the heap is whole. */
NOINLINE_TEST static void requests_without_memory(struct rng *rng) {
  static const uint64_t pointers[] = {1};
  static const struct midden_type type = {.name = "t", .size = 64, .pointers = pointers};
  for (int i = 0; i < FAILING_REQUESTS; i++) {
    size_t bytes = 1 + rng_size(rng, 64 * MIB);
    void *list;
    midden_alloc(bytes);
    midden_alloc_data(bytes);
    midden_alloc_array(&type, bytes / 64);
    midden_alloc_aligned(MIDDEN_DATA, 4096, bytes);
    midden_alloc_many(MIDDEN_CONSERVATIVE, 1 + bytes % 512, &list);
    void *root = midden_alloc_root(bytes);
    void *grown = midden_realloc(root, bytes + bytes / 2 + 1);
    midden_free(grown != NULL ? grown : root);
  }
}

/* The whole story: fill until it fails (it must, where `must_fail`), check, go on, drop, fill again. */
static void story(struct rng *rng, size_t limit, size_t most_bytes, bool must_fail) {
  bool failed = blocks_fill(rng, limit, most_bytes);
  REQUIRE(failed || !must_fail, "%zu MiB were allocated and nothing failed", block_bytes / MIB);
  size_t full_bytes = block_bytes;
  blocks_check();
  if (failed) requests_without_memory(rng);
  midden_collect();
  blocks_check();
  midden_verify();
  blocks_drop();
  for (int i = 0; i < 2; i++) test_collect_clean();
  /* One that fails may have been the largest of all. */
  for (int i = 0; i < REFILL_TRIES && blocks_fill(rng, limit, full_bytes / 2); i++) {
  }
  REQUIRE(block_bytes >= full_bytes / 4, "%zu KiB fit at first, only %zu KiB after all was dropped", full_bytes >> 10,
          block_bytes >> 10);
  blocks_check();
  midden_verify();
}

/* ---- the system's limits ---- */

struct limit_case {
  int resource;
  size_t bytes;      /* beyond what is in use */
  bool before_start; /* set before the library starts, else in the middle of the work */
  size_t block_limit;
  uint64_t seed;
};

/* What the process has now, in bytes: address space, or private writable memory. */
static size_t in_use(int resource) {
  unsigned long total = 0, resident, shared, text, library, data = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  REQUIRE(file != NULL, "/proc/self/statm: %s", strerror(errno));
  int read = fscanf(file, "%lu %lu %lu %lu %lu %lu", &total, &resident, &shared, &text, &library, &data);
  fclose(file);
  REQUIRE(read == 6, "/proc/self/statm is not understood");
  return (resource == RLIMIT_AS ? total : data) * (size_t)sysconf(_SC_PAGESIZE);
}

static void set_limit(int resource, size_t more_bytes) {
  struct rlimit limit = {.rlim_cur = in_use(resource) + more_bytes};
  limit.rlim_max = limit.rlim_cur;
  REQUIRE(setrlimit(resource, &limit) == 0, "setrlimit: %s", strerror(errno));
}

static int limit_child(void *argument) {
  const struct limit_case *limit = argument;
  struct rng rng = {limit->seed};
  if (!limit->before_start) blocks_fill(&rng, limit->block_limit, 8 * MIB);
  set_limit(limit->resource, limit->bytes);
  /* The address space that the heap reserved at its start stays usable under a later limit of address space. */
  bool must_fail = limit->before_start || limit->resource == RLIMIT_DATA;
  size_t most = must_fail ? limit->bytes + 512 * MIB : 96 * MIB;
  story(&rng, limit->block_limit, most, must_fail);
  return 0;
}

static void run_limits(int resource, bool before_start, size_t bytes) {
  static const size_t block_limits[] = {300, 20000, 4 << 20};
  for (size_t i = 0; i < TEST_COUNT_OF(block_limits); i++) {
    struct limit_case limit = {resource, bytes, before_start, block_limits[i], test_seed_value + i};
    test_child_succeeds("limit", limit_child, &limit, CHILD_SECONDS);
  }
}

static void test_address_space_before_start(void **state) {
  (void)state;
  run_limits(RLIMIT_AS, true, 160 * MIB);
}

static void test_address_space_later(void **state) {
  (void)state;
  run_limits(RLIMIT_AS, false, 4 * MIB);
}

static void test_data_before_start(void **state) {
  (void)state;
  run_limits(RLIMIT_DATA, true, 32 * MIB);
}

static void test_data_later(void **state) {
  (void)state;
  run_limits(RLIMIT_DATA, false, 20 * MIB);
}

/* So little that the library can hardly start: NULL or an error, never a crash. */
static int starved_child(void *argument) {
  struct rng rng = {test_seed_value};
  set_limit(RLIMIT_AS, *(size_t *)argument);
  int error = midden_init(NULL);
  REQUIRE(error == 0 || error == -ENOMEM, "midden_init: %d", error);
  if (error != 0) return 0; /* the program was told, and goes on without a heap */
  for (int i = 0; i < 1000; i++) midden_alloc(rng_size(&rng, 100000));
  midden_collect();
  midden_verify();
  return 0;
}

static void test_hardly_any_address_space(void **state) {
  (void)state;
  for (size_t bytes = 64 << 10; bytes <= 128 * MIB; bytes *= 2) {
    test_child_succeeds("starved", starved_child, &bytes, CHILD_SECONDS);
  }
}

/* ---- the heap's own limits ---- */

static int max_heap_child(void *argument) {
  size_t most = *(size_t *)argument;
  struct rng rng = {test_seed_value};
  struct midden_options options = {.size = sizeof(options), .max_heap_bytes = most};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  story(&rng, 5000, 4 * most, true);
  REQUIRE(test_stats().heap_system <= most, "heap of %zu bytes, at most %zu allowed", test_stats().heap_system, most);
  REQUIRE(block_bytes >= most / 8, "only %zu bytes fit in a heap of %zu", block_bytes, most);
  REQUIRE(midden_alloc(most + 1) == NULL, "an object larger than the heap");
  REQUIRE(midden_set_max_heap(4 * most) == most, "midden_set_max_heap returns another value than was set");
  REQUIRE(midden_alloc(most + 1) != NULL, "the heap may grow again, but does not");
  return 0;
}

static void test_max_heap(void **state) {
  (void)state;
  for (size_t most = 8 * MIB; most <= 64 * MIB; most *= 8) {
    test_child_succeeds("max_heap_bytes", max_heap_child, &most, CHILD_SECONDS);
  }
}

/* Much garbage, little alive, and a percentage that alone would let the heap grow far beyond the limit. */
static int memory_limit_child(void *argument) {
  const size_t limit = 48 * MIB;
  struct midden_options options = {
      .size = sizeof(options), .percent = 5000, .memory_limit_bytes = *(bool *)argument ? limit : 0};
  struct rng rng = {test_seed_value};
  size_t peak = 0;
  REQUIRE(midden_init(&options) == 0, "midden_init");
  blocks_fill(&rng, 2000, 8 * MIB);
  midden_collect();
  for (int i = 0; i < 500000; i++) {
    REQUIRE(midden_alloc(512) != NULL, "out of memory");
    if (i % 512 != 0) continue;
    struct midden_stats stats = test_stats();
    size_t now = stats.heap_system - stats.heap_released + stats.metadata;
    if (now > peak) peak = now;
  }
  blocks_check();
  if (options.memory_limit_bytes == 0) return peak > limit ? 0 : 1; /* or the limit would not be tested */
  /* The limit is soft: the arena grows in steps, and figures are taken between them. */
  REQUIRE(peak <= limit + limit / 4, "%zu MiB in use under a limit of %zu", peak / MIB, limit / MIB);
  REQUIRE(midden_set_memory_limit(2 * limit) == limit, "midden_set_memory_limit returns another value than was set");
  return 0;
}

static void test_memory_limit(void **state) {
  (void)state;
  for (int limited = 0; limited < 2; limited++) {
    bool argument = limited;
    test_child_succeeds("memory_limit_bytes", memory_limit_child, &argument, CHILD_SECONDS);
  }
}

/* A limit below what lives: the collector works hard, but the program goes on. */
static int tight_limit_child(void *argument) {
  struct midden_options options = {.size = sizeof(options), .memory_limit_bytes = 4 * MIB};
  struct rng rng = {test_seed_value};
  (void)argument;
  REQUIRE(midden_init(&options) == 0, "midden_init");
  REQUIRE(!blocks_fill(&rng, 2000, 12 * MIB), "a soft limit made an allocation fail");
  for (int i = 0; i < 20000; i++) REQUIRE(midden_alloc(512) != NULL, "out of memory");
  blocks_check();
  return 0;
}

static void test_limit_below_live_heap(void **state) {
  (void)state;
  test_child_succeeds("tight limit", tight_limit_child, NULL, CHILD_SECONDS);
}

/* ---- the handler ---- */

static char reserve_object[64];
static size_t handler_calls, handler_bytes;

static void *handler_substitute(size_t bytes) {
  handler_calls++;
  handler_bytes = bytes;
  return reserve_object;
}

static void *handler_that_drops(size_t bytes) {
  handler_calls++;
  blocks_drop();
  midden_collect();
  return midden_alloc(bytes);
}

/* Compilers take it for granted that an allocator returns nothing that the program knows already. */
NOINLINE_TEST static uintptr_t too_much(bool data) {
  void *volatile object = data ? midden_alloc_data(20 * MIB) : midden_alloc(20 * MIB);
  return (uintptr_t)object;
}

static int handler_child(void *argument) {
  struct midden_options options = {.size = sizeof(options), .max_heap_bytes = 16 * MIB};
  (void)argument;
  REQUIRE(midden_init(&options) == 0, "midden_init");
  midden_set_out_of_memory(handler_substitute);
  void *object = midden_alloc(100);
  REQUIRE(object != NULL && object != reserve_object && handler_calls == 0, "the handler was called for nothing");
  REQUIRE(too_much(false) == (uintptr_t)reserve_object, "the handler's value was not returned");
  REQUIRE(handler_calls == 1 && handler_bytes == 20 * MIB, "handler: %zu calls, %zu bytes", handler_calls,
          handler_bytes);
  REQUIRE(too_much(true) == (uintptr_t)reserve_object && handler_calls == 2, "the handler was not called again");
  midden_set_out_of_memory(NULL);
  REQUIRE(too_much(false) == 0 && handler_calls == 2, "the handler that was removed was called");
  /* One that makes room: the program never sees a failure. */
  struct rng rng = {test_seed_value};
  midden_set_out_of_memory(handler_that_drops);
  for (int i = 0; i < 100000; i++) REQUIRE(blocks_add(&rng, 10000), "failed though there was room to make");
  blocks_check();
  REQUIRE(handler_calls > 2, "the heap never was full");
  return 0;
}

static void test_handler(void **state) {
  (void)state;
  test_child_succeeds("handler", handler_child, NULL, CHILD_SECONDS);
}

/* ---- the environment ---- */

struct setting {
  const char *name, *value;
};

/* The defaults, written to standard error for the parent to compare. */
static int settings_child(void *argument) {
  const struct setting *setting = argument;
  if (setting->name != NULL) setenv(setting->name, setting->value, 1);
  if (midden_init(NULL) != 0) return 1;
  int percent = midden_set_percent(100);
  size_t limit = midden_set_memory_limit(64 * MIB), most = midden_set_max_heap(64 * MIB);
  unsigned markers = midden_set_markers(1);
  dprintf(STDERR_FILENO, "SETTINGS %d %zu %zu %u\n", percent, limit, most, markers);
  return midden_alloc(100) == NULL;
}

static void read_settings(const struct setting *setting, struct test_outcome *outcome, char *settings, size_t bytes) {
  *outcome = test_child(settings_child, (void *)(uintptr_t)setting, CHILD_SECONDS);
  REQUIRE(WIFEXITED(outcome->status) && WEXITSTATUS(outcome->status) == 0, "%s=%s: status 0x%x: %s", setting->name,
          setting->value, (unsigned)outcome->status, outcome->message);
  const char *found = strstr(outcome->message, "SETTINGS");
  REQUIRE(found != NULL, "%s", outcome->message);
  snprintf(settings, bytes, "%s", found);
}

static void test_bad_environment(void **state) {
  (void)state;
  static const struct setting bad[] = {
      {"MIDDEN_MODE", "bogus"},     {"MIDDEN_PERCENT", "abc"},      {"MIDDEN_PERCENT", "-2"},
      {"MIDDEN_PERCENT", "50x"},    {"MIDDEN_MEMORY_LIMIT", "12Q"}, {"MIDDEN_MEMORY_LIMIT", "-1"},
      {"MIDDEN_MARKERS", "-3"},     {"MIDDEN_MARKERS", "x"},        {"MIDDEN_MARKERS", "99999999999999999999"},
      {"MIDDEN_DEBUG", "nonsense"}, {"MIDDEN_TRACE", "?"},
  };
  struct test_outcome outcome;
  char defaults[256], settings[256];
  read_settings(&(struct setting){NULL, NULL}, &outcome, defaults, sizeof(defaults));
  assert_ptr_equal(outcome.message, strstr(outcome.message, "SETTINGS")); /* nothing else was said */
  for (size_t i = 0; i < TEST_COUNT_OF(bad); i++) {
    read_settings(&bad[i], &outcome, settings, sizeof(settings));
    REQUIRE(strstr(outcome.message, bad[i].name) != NULL, "%s=%s was not reported: %s", bad[i].name, bad[i].value,
            outcome.message);
    REQUIRE(strcmp(settings, defaults) == 0, "%s=%s was applied: %s instead of %s", bad[i].name, bad[i].value, settings,
            defaults);
  }
}

static int environment_wins_child(void *argument) {
  struct midden_options options = {.size = sizeof(options), .percent = 70, .max_heap_bytes = 32 * MIB};
  (void)argument;
  setenv("MIDDEN_PERCENT", "55", 1);
  REQUIRE(midden_init(&options) == 0, "midden_init");
  REQUIRE(midden_set_percent(-1) == 55, "MIDDEN_PERCENT was not applied");
  REQUIRE(midden_set_percent(100) == -1, "midden_set_percent returns another value than was set");
  REQUIRE(midden_set_max_heap(0) == 32 * MIB, "an option without a variable was not applied");
  return 0;
}

static void test_environment_wins(void **state) {
  (void)state;
  test_child_succeeds("environment", environment_wins_child, NULL, CHILD_SECONDS);
}

int main(void) {
  test_start("test_memory");
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_address_space_before_start),
      cmocka_unit_test(test_address_space_later),
      cmocka_unit_test(test_data_before_start),
      cmocka_unit_test(test_data_later),
      cmocka_unit_test(test_hardly_any_address_space),
      cmocka_unit_test(test_max_heap),
      cmocka_unit_test(test_memory_limit),
      cmocka_unit_test(test_limit_below_live_heap),
      cmocka_unit_test(test_handler),
      cmocka_unit_test(test_bad_environment),
      cmocka_unit_test(test_environment_wins),
  };
  return test_run_group(tests);
}
