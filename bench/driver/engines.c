#include "driver/engines.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "driver/child.h"

struct engine engines[ENGINE_COUNT] = {
    {.name = "midden", .other_name = "midden-stw", .worker = "worker-midden", .mode = "mode=stw"},
    {.name = "midden-barrier", .worker = "worker-midden", .mode = "mode=barrier"},
    {.name = "midden-dirty", .worker = "worker-midden", .mode = "mode=dirty"},
    {.name = "dropin", .worker = "worker-libgc", .uses_libgc = true, .is_dropin = true},
    {.name = "dropin-stw", .worker = "worker-libgc", .uses_libgc = true, .is_dropin = true, .dropin_mode = "stw"},
    {.name = "stock", .worker = "worker-libgc", .uses_libgc = true, .package = "libgc1"},
    {.name = "stock-serial", .worker = "worker-libgc", .mode = "mode=serial", .uses_libgc = true, .package = "libgc1"},
    {.name = "stock-parallel",
     .worker = "worker-libgc",
     .mode = "mode=parallel",
     .uses_libgc = true,
     .package = "libgc1"},
    {.name = "stock-incremental",
     .worker = "worker-libgc",
     .mode = "mode=incremental",
     .uses_libgc = true,
     .package = "libgc1"},
    {.name = "go", .worker = "worker-go", .package = "golang-go"},
    {.name = "go-locked", .worker = "worker-go", .mode = "mode=locked", .package = "golang-go"},
    {.name = "malloc", .worker = "worker-malloc"},
    {.name = "control", .worker = "worker-malloc"},
};

enum { PROBE_TIMEOUT_S = 20, LIST_BYTES = 256 };

struct engine *engines_find(const char *name) {
  for (int i = 0; i < ENGINE_COUNT; i++) {
    if (strcmp(engines[i].name, name) == 0) return &engines[i];
    if (engines[i].other_name != NULL && strcmp(engines[i].other_name, name) == 0) return &engines[i];
  }
  return NULL;
}

bool engines_listed(const char *list, const struct engine *engine) {
  char names[LIST_BYTES];
  snprintf(names, sizeof names, "%s", list);
  for (char *rest = names, *name; (name = strsep(&rest, ",")) != NULL;) {
    if (engines_find(name) == engine) return true;
  }
  return false;
}

static void set_library_dir(bool of_dropin, const char *dir) {
  for (int i = 0; i < ENGINE_COUNT; i++) {
    if (engines[i].uses_libgc && engines[i].is_dropin == of_dropin) engines[i].library_dir = dir;
  }
}

void engines_set_dropin_dir(const char *dir) { set_library_dir(true, dir); }

void engines_set_stock_dir(const char *dir) { set_library_dir(false, dir); }

int engines_select(const char *list) {
  char names[LIST_BYTES];
  if (strlen(list) >= sizeof names) return -EINVAL;
  strcpy(names, list);
  for (char *rest = names, *name; (name = strsep(&rest, ",")) != NULL;) {
    struct engine *engine = engines_find(name);
    if (engine == NULL) {
      fprintf(stderr, "bench: no such engine: %s\n", name);
      return -EINVAL;
    }
    engine->selected = true;
  }
  return 0;
}

static bool has_file(const char *dir, const char *name) {
  char path[PATH_MAX];
  return snprintf(path, sizeof path, "%s/%s", dir, name) < (int)sizeof path && access(path, F_OK) == 0;
}

/* Whether `path` is a file directly in `dir`, both after resolving links. */
static bool lies_in(const char *path, const char *dir) {
  char *real_dir = realpath(dir, NULL);
  size_t length = real_dir == NULL ? 0 : strlen(real_dir);
  bool inside = length != 0 && strncmp(path, real_dir, length) == 0 && strrchr(path, '/') == path + length;
  free(real_dir);
  return inside;
}

/* The drop-in's and the stock library have one soname: the loaded file must prove which one it was. */
static int check_library(const struct engine *engine) {
  if (!engine->uses_libgc) return 0;
  if (engine->library_dir != NULL && !lies_in(engine->library, engine->library_dir)) {
    fprintf(stderr, "bench: %s loaded %s, which is not in %s\n", engine->name, engine->library, engine->library_dir);
    return -EINVAL;
  }
  const struct engine *dropin = engines_find("dropin");
  if (!engine->is_dropin && dropin->library_dir != NULL && lies_in(engine->library, dropin->library_dir)) {
    fprintf(stderr, "bench: %s loaded the drop-in, %s\n", engine->name, engine->library);
    return -EINVAL;
  }
  return 0;
}

static bool is_installed(const struct engine *engine) {
  if (access(engine->program, X_OK) != 0) return false;
  if (engine->library_dir != NULL) return has_file(engine->library_dir, "libgc.so.1");
  return !engine->is_dropin; /* the drop-in always has a folder of its own */
}

static int probe(struct engine *engine) {
  char *arguments[] = {"info", NULL};
  struct child child = {.engine = engine, .arguments = arguments, .timeout_s = PROBE_TIMEOUT_S};
  enum child_end end = child_run(&child);
  if (end == CHILD_NOT_STARTED) return -ENOENT;
  if (end != CHILD_DONE) return -EINVAL;
  memcpy(engine->description, child.record.engine, sizeof engine->description);
  memcpy(engine->library, child.record.library, sizeof engine->library);
  return check_library(engine);
}

static int probe_one(struct engine *engine, const char *worker_dir, bool required) {
  int length = snprintf(engine->program, sizeof engine->program, "%s/%s", worker_dir, engine->worker);
  int error = length < (int)sizeof engine->program && is_installed(engine) ? probe(engine) : -ENOENT;
  if (error == -ENOENT) {
    const char *package = engine->package != NULL ? engine->package : "part of the build";
    fprintf(stderr, "bench: %s: not installed (%s)%s\n", engine->name, package, required ? "" : ", left out");
    engine->selected = false;
    return required ? error : 0;
  }
  if (error == 0) printf("%-*s %s, %s\n", ENGINE_NAME_WIDTH, engine->name, engine->description, engine->library);
  return error;
}

int engines_probe(const char *worker_dir, bool required) {
  for (int i = 0; i < ENGINE_COUNT; i++) {
    int error = engines[i].selected ? probe_one(&engines[i], worker_dir, required) : 0;
    if (error != 0) return error;
  }
  return 0;
}
