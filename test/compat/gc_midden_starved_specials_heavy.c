/* Where there is no memory for a finalizer or a link the function for that is asked, as for an object, and the finalizer before it is
 * not told: programs whose function ends the process or jumps out of the call went on without the finalizer, and knew nothing.
 * (Heavy: a sanitizer needs address space.) */
#include <sys/resource.h>
#include <unistd.h>

#include "gc_check.h"

enum { OBJECTS = 400000 };

static void **objects;
static void *links[OBJECTS];
static int asked;

static void *count_asked(size_t bytes) {
  CHECK(bytes > 0 && bytes < 1000);
  asked++;
  return NULL;
}

static void finalize(void *object, void *argument) { (void)object, (void)argument; }

/* The number of the first object that gets none. */
static int register_finalizers(void) {
  for (int i = 0; i < OBJECTS; i++) {
    GC_finalization_proc old = finalize;
    void *old_argument = &old;
    int before = asked;
    GC_register_finalizer(objects[i], finalize, NULL, &old, &old_argument);
    if (asked == before) {
      CHECK(old == NULL && old_argument == NULL);
    } else {
      CHECK(old == finalize && old_argument == &old);
      return i;
    }
  }
  return OBJECTS;
}

static int register_links(void) {
  for (int i = 0; i < OBJECTS; i++) {
    int before = asked, result = GC_general_register_disappearing_link(&links[i], objects[i]);
    CHECK(result == (asked == before ? GC_SUCCESS : GC_NO_MEMORY));
    if (result != GC_SUCCESS) return i;
  }
  return OBJECTS;
}

int main(void) {
  GC_INIT();
  GC_disable();
  objects = GC_malloc(OBJECTS * sizeof(void *));
  for (int i = 0; i < OBJECTS; i++) CHECK((objects[i] = GC_malloc(16)) != NULL);
  GC_set_oom_fn(count_asked);
  struct rlimit nothing = {.rlim_cur = 1 << 20, .rlim_max = 1 << 20};
  CHECK(setrlimit(RLIMIT_AS, &nothing) == 0);
  CHECK(register_finalizers() < OBJECTS);
  CHECK(register_links() < OBJECTS);
  CHECK(asked == 2);
  _exit(0);
}
