#include "observe/profile_file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "gc/profile.h"
#include "os/os.h"

enum {
  TEXT_BYTES = 2048,                              /* on the stack, which may be a fiber's */
  LINE_BYTES = 4 * 24 + MIDDEN_PROFILE_DEPTH * 20 /* at most */
};

struct writer {
  const char *path;
  uint64_t offset; /* of the text in the file */
  size_t length;   /* of the text */
  int error;       /* the first */
  char text[TEXT_BYTES];
};

static void flush(struct writer *writer) {
  if (writer->error == 0) writer->error = os_write_file(writer->path, writer->text, writer->length, writer->offset);
  writer->offset += writer->length;
  writer->length = 0;
}

PRINTF_LIKE(2, 3) static void append(struct writer *writer, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(writer->text + writer->length, TEXT_BYTES - writer->length, format, arguments);
  va_end(arguments);
  if (length > 0) writer->length += (size_t)length;
}

struct sums {
  uint64_t used, used_bytes, allocated, allocated_bytes;
};

static void add(struct sums *sums, const struct midden_profile_bucket *bucket) {
  uint64_t used = bucket->samples_allocated - bucket->samples_freed;
  sums->used += used;
  sums->used_bytes += used * bucket->object_bytes;
  sums->allocated += bucket->samples_allocated;
  sums->allocated_bytes += bucket->samples_allocated * bucket->object_bytes;
}

static void append_sums(struct writer *writer, const struct sums *sums) {
  append(writer, "%" PRIu64 ": %" PRIu64 " [%" PRIu64 ": %" PRIu64 "] @", sums->used, sums->used_bytes, sums->allocated,
         sums->allocated_bytes);
}

static bool add_up(const struct midden_profile_bucket *bucket, void *argument) {
  add(argument, bucket);
  return true;
}

/* Readers subtract 1 from each return address, so that it lies in the call, but take the first for the address of an
 * instruction: for that one it is done here. */
static bool write_bucket(const struct midden_profile_bucket *bucket, void *argument) {
  struct writer *writer = argument;
  struct sums sums = {0};
  if (writer->length + LINE_BYTES > TEXT_BYTES) flush(writer);
  add(&sums, bucket);
  append_sums(writer, &sums);
  for (size_t i = 0; i < bucket->depth; i++) append(writer, " 0x%" PRIxPTR, bucket->stack[i] - (i == 0));
  append(writer, "\n");
  return writer->error == 0;
}

int profile_file_write(struct mutator *self, const char *path) {
  struct writer writer = {.path = path};
  struct sums sums = {0};
  size_t distance = profile_distance(self);
  if (distance == 0) return -EINVAL;
  writer.error = os_create_file(path);
  if (writer.error != 0) return writer.error;
  profile_visit(self, add_up, &sums);
  append(&writer, "heap profile: ");
  append_sums(&writer, &sums);
  append(&writer, " heap_v2/%zu\n", distance);
  profile_visit(self, write_bucket, &writer);
  append(&writer, "\nMAPPED_LIBRARIES:\n");
  flush(&writer);
  return writer.error != 0 ? writer.error : os_write_mappings(path, writer.offset);
}
