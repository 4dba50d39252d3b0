/* A MIDDEN_ variable wins over its counterpart of libgc's, when the library is loaded and when the program starts it; an empty one is
 * as good as none. */
#include <unistd.h>

#include "gc_check.h"

enum { MIB = 1 << 20, SMALL_MIB = 32, LARGE_MIB = 100 };

static int fit(void) {
  int count = 0;
  void **list = NULL, **next;
  for (; count < LARGE_MIB && (next = GC_malloc(MIB)) != NULL; count++) {
    *next = list;
    list = next;
  }
  return count;
}

static int check_won(int won) {
  GC_set_warn_proc(GC_ignore_warn_proc);
  GC_INIT();
  CHECK_EQUAL(GC_get_parallel(), won ? 1 : 2);
  int count = fit();
  CHECK(won ? count == LARGE_MIB : count <= SMALL_MIB);
  return 0;
}

int main(int count, char **arguments) {
  if (count > 1) {
    check_won(strcmp(arguments[1], "won") == 0);
    if (strcmp(arguments[1], "lost") == 0) return 0;
    setenv("MIDDEN_MAX_HEAP", "", 1);
    setenv("MIDDEN_MARKERS", "", 1);
    execl("/proc/self/exe", arguments[0], "lost", (char *)NULL);
    return 1;
  }
  setenv("GC_MAXIMUM_HEAP_SIZE", "32m", 1);
  setenv("GC_MARKERS", "3", 1);
  setenv("MIDDEN_MAX_HEAP", "1G", 1);
  setenv("MIDDEN_MARKERS", "2", 1);
  execl("/proc/self/exe", arguments[0], "won", (char *)NULL);
  return 1;
}
