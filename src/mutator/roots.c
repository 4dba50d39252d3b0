#include "mutator/roots.h"

#include <errno.h>
#include <string.h>

#include "base/atomic.h"
#include "base/bits.h"
#include "meta/persist.h"
#include "mutator/ranges.h"
#include "mutator/world.h"

enum { TLS_MODULES_MAX = 512 };

static struct lock lock = LOCK_INIT(LOCK_RANK_ROOTS);
static struct ranges added, excluded; /* under lock; read while the world is stopped */

/* Written while the world is stopped. */
static struct {
  struct ranges data;
  struct os_tls_module tls[TLS_MODULES_MAX];
  size_t tls_count;
  uint64_t generation;
  bool known; /* false: to be learned at the next stop */
} modules;

static bool modules_stale;              /* atomic; the filter changed: ask it of every object again */
static bool scan_modules = true;        /* atomic */
static midden_module_filter_fn *filter; /* atomic */

int roots_add(struct os_range range) {
  lock_acquire(&lock);
  int error = ranges_add(&added, range);
  lock_release(&lock);
  return error;
}

int roots_remove(struct os_range range) {
  lock_acquire(&lock);
  int error = ranges_remove(&added, range);
  lock_release(&lock);
  return error;
}

void roots_clear(void) {
  lock_acquire(&lock);
  ranges_clear(&added);
  lock_release(&lock);
}

int roots_exclude(struct os_range range) {
  lock_acquire(&lock);
  int error = ranges_add(&excluded, range);
  lock_release(&lock);
  return error;
}

void roots_scan_modules(bool scan) { atomic_store_release(&scan_modules, scan); }

void roots_set_module_filter(midden_module_filter_fn *function) {
  atomic_store_release(&filter, function);
  atomic_store_release(&modules_stale, true);
}

/* Called by the loader's visit, the loader's lock held: the moment to stop the world. */
static bool stop_and_compare(void *argument, uint64_t generation) {
  world_stop(argument);
  bool stale = atomic_exchange_acquire(&modules_stale, false);
  if (modules.known && modules.generation == generation && !stale) return false;
  modules.known = true;
  modules.generation = generation;
  modules.tls_count = 0;
  ranges_clear(&modules.data);
  return true;
}

static bool is_wanted(const struct os_module *module, struct os_range data) {
  midden_module_filter_fn *ask = atomic_load_acquire(&filter);
  return ask == NULL || ask(module->name, (void *)data.start, data.end - data.start);
}

static void learn_module(void *argument, const struct os_module *module) {
  (void)argument;
  for (size_t i = 0; i < module->data_count; i++) {
    if (!is_wanted(module, module->data[i])) continue;
    if (ranges_add(&modules.data, module->data[i]) != 0) modules.known = false;
  }
  if (module->tls_module == 0 || module->tls_bytes == 0) return;
  CHECK(modules.tls_count < TLS_MODULES_MAX, "more than %d objects have thread-local storage", TLS_MODULES_MAX);
  modules.tls[modules.tls_count++] = (struct os_tls_module){module->tls_module, module->tls_bytes};
}

bool roots_stop_world(struct mutator *self) {
  os_visit_modules(stop_and_compare, learn_module, self);
  return modules.known;
}

void roots_visit(void (*visit)(void *argument, struct os_range range), void *argument) {
  for (size_t i = 0; i < added.count; i++) visit(argument, added.items[i]);
  if (!atomic_load_acquire(&scan_modules)) return;
  for (size_t i = 0; i < modules.data.count; i++)
    ranges_visit_outside(&excluded, modules.data.items[i], visit, argument);
}

const struct os_tls_module *roots_tls_modules(size_t *count) {
  *count = modules.tls_count;
  return modules.tls;
}
