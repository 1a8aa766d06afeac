/* SPDX-License-Identifier: MIT */
/* file.c: files that the ranks of a communicator write and read together. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* fallocate */
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

typedef int set_comm(int64_t list, MPI_Comm comm, MPI_Info info);

int nmpi_file_give_comm(const nmpi_comm *comm, void *function, int64_t list) {
  TRY(check_comm(&comm));
  return ((set_comm *)(uintptr_t)function)(list, comm->handle, MPI_INFO_NULL);
}

/* ---- space ---- */

static int allocate(int descriptor, int64_t bytes) {
#ifdef __linux__
  while (fallocate(descriptor, 0, 0, bytes) != 0) {
    if (errno == EOPNOTSUPP || errno == ENOSYS) return 0;
    if (errno != EINTR) return errno;
  }
#else
  (void)descriptor, (void)bytes;
#endif
  return 0;
}

int nmpi_file_reserve(const char *path, int64_t bytes) {
  int descriptor = open(path, O_WRONLY | O_CLOEXEC);
  int code = descriptor < 0 ? errno : allocate(descriptor, bytes);
  if (descriptor >= 0) close(descriptor);
  if (code == 0) return NMPI_SUCCESS;
  return fail(NULL, "'%s': %s (for a size of %lld bytes)", path, strerror(code), (long long)bytes);
}

int nmpi_file_truncate(const char *path, int64_t bytes) {
  if (truncate(path, bytes) == 0) return NMPI_SUCCESS;
  return fail(NULL, "'%s': %s", path, strerror(errno));
}

static atomic_bool lost;

void nmpi_file_lose(void) {
  lost = true;
}

bool file_is_lost(void) {
  return lost;
}

/* ---- one array of all ranks ---- */

/* MPI's implementations of files count bytes by int here and there. */
enum { ROUND_BYTES = 1 << 30 };

/* Where a part lies: so many bytes from the start of the file, and in runs that the type describes. */
typedef struct region {
  MPI_Offset displacement;
  MPI_Datatype type;
} region;

static int multiply(MPI_Datatype *type, int64_t count, int64_t stride) {
  MPI_Datatype made;
  TRY(MPI_Type_create_hvector((int)count, 1, (MPI_Aint)stride, *type, &made));
  MPI_Type_free(type);
  *type = made;
  return MPI_SUCCESS;
}

static int describe(region *r, const nmpi_array *a, const nmpi_part *part, int64_t offset) {
  int64_t step = a->itemsize, run = step;
  int d = part->ndim - 1;
  r->displacement = (MPI_Offset)offset;
  r->type = MPI_BYTE;
  if (a->length == 0) return MPI_SUCCESS;
  bool whole = true;
  MPI_Datatype type = MPI_BYTE;
  for (; d >= 0; d--) {
    r->displacement += (MPI_Offset)(part->start[d] * step);
    if (whole) {
      run *= part->extent[d];
    } else if (part->extent[d] > INT_MAX) {
      return fail("array", "expected extents of at most %d in all dimensions but the last",
                  INT_MAX);
    } else if (part->extent[d] > 1) {
      TRY(multiply(&type, part->extent[d], step));
    }
    if (whole && part->extent[d] != part->shape[d] && d > 0) {
      whole = false;
      type = MPI_BYTE;
      if (run <= INT_MAX) {
        TRY(MPI_Type_contiguous((int)run, MPI_BYTE, &type));
      } else {
        type = message_large_type(MPI_BYTE, run);
      }
    }
    step *= part->shape[d];
  }
  if (type != MPI_BYTE) TRY(MPI_Type_commit(&type));
  r->type = type;
  return MPI_SUCCESS;
}

/* Whether a step has failed on any rank. */
static bool any_failed(MPI_Comm comm, int code) {
  int mine = code != MPI_SUCCESS, any = 1;
  return MPI_Allreduce(&mine, &any, 1, MPI_INT, MPI_MAX, comm) != MPI_SUCCESS || any;
}

static int move_round(MPI_File file, const message *m, int64_t from, bool write) {
  int64_t left = (int64_t)m->bytes - from;
  int count = left <= 0 ? 0 : left < ROUND_BYTES ? (int)left : ROUND_BYTES;
  char *data = count > 0 ? (char *)m->data + from : NULL;
  MPI_Status status;
  int code = write ? MPI_File_write_all(file, data, count, MPI_BYTE, &status)
                   : MPI_File_read_all(file, data, count, MPI_BYTE, &status);
  if (code != MPI_SUCCESS || count == 0) return code;
  MPI_Count bytes = 0;
  MPI_Get_elements_x(&status, MPI_BYTE, &bytes);
  if (bytes == count) return MPI_SUCCESS;
  return fail(NULL, "%lld of %d bytes could be %s", (long long)bytes, count,
              write ? "written" : "read: the file is too short");
}

static int move_all(MPI_File file, const message *m, MPI_Comm comm, bool write) {
  int64_t mine = ((int64_t)m->bytes + ROUND_BYTES - 1) / ROUND_BYTES, rounds = 0;
  TRY(MPI_Allreduce(&mine, &rounds, 1, MPI_INT64_T, MPI_MAX, comm));
  for (int64_t i = 0; i < rounds; i++) {
    int code = move_round(file, m, i * ROUND_BYTES, write);
    if (any_failed(comm, code)) return code;
  }
  return write ? MPI_File_sync(file) : MPI_SUCCESS;
}

static int move_region(const char *path, const region *r, const message *m, MPI_Comm comm,
                       bool write) {
  MPI_File file = MPI_FILE_NULL;
  int code =
      MPI_File_open(comm, path, write ? MPI_MODE_WRONLY : MPI_MODE_RDONLY, MPI_INFO_NULL, &file);
  if (any_failed(comm, code)) return code;
  code = MPI_File_set_view(file, r->displacement, MPI_BYTE, r->type, "native", MPI_INFO_NULL);
  if (!any_failed(comm, code)) code = move_all(file, m, comm, write);
  int close_code = MPI_File_close(&file);
  return code != MPI_SUCCESS ? code : close_code;
}

static int move_part(const char *path, int64_t offset, message *m, const nmpi_array *a,
                     const nmpi_part *part, MPI_Comm comm, int code, bool write) {
  region r = {0, MPI_BYTE};
  if (code == NMPI_SUCCESS) code = describe(&r, a, part, offset);
  if (!any_failed(comm, code)) code = move_region(path, &r, m, comm, write);
  if (r.type != MPI_BYTE) MPI_Type_free(&r.type);
  if (code == NMPI_SUCCESS && !write) message_unpack(m, a->length);
  message_done(m);
  return code;
}

int nmpi_file_write(const char *path, int64_t offset, const nmpi_array *data, const nmpi_part *part,
                    const nmpi_comm *comm) {
  message m;
  TRY(check_comm(&comm));
  int code = message_send(&m, data, "array", NULL);
  return move_part(path, offset, &m, data, part, comm->handle, code, true);
}

int nmpi_file_read(const char *path, int64_t offset, nmpi_array *data, const nmpi_part *part,
                   const nmpi_comm *comm) {
  message m;
  TRY(check_comm(&comm));
  int code = message_recv(&m, data, "array", false, NULL);
  return move_part(path, offset, &m, data, part, comm->handle, code, false);
}
