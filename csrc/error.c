/* SPDX-License-Identifier: MIT */
/* error.c: argument errors of this thread, and MPI's error codes explained. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "internal.h"

static THREAD_LOCAL texts *mine;

static void texts_leave(own *o) {
  mine = NULL;
  free((texts *)o);
}

texts *texts_mine(void) {
  static texts shared; /* by threads for which there is no memory */
  if (mine != NULL) return mine;
  mine = calloc(1, sizeof *mine);
  if (mine == NULL) return &shared;
  own_join(&mine->o, texts_leave);
  return mine;
}

int fail(const char *argument, const char *format, ...) {
  texts *t = texts_mine();
  char *text = t->argument_error;
  size_t room = sizeof t->argument_error;
  int length = argument != NULL ? snprintf(text, room, "argument '%s': ", argument) : 0;
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text + length, room - (size_t)length, format, arguments);
  va_end(arguments);
  return NMPI_ERR_ARGUMENT;
}

const char *nmpi_error_message(void) {
  return texts_mine()->argument_error;
}

/* MPICH 4.0 looks up its message by bits 8 to 18 of a code, and crashes on a number that it never gave out. */
#ifdef OPEN_MPI
static bool is_known(int status) {
  return status >= 0;
}

void nmpi_error_note(int status) {
  (void)status;
}
#else
enum { MESSAGES = 2048 };

static _Atomic(bool) noted[MESSAGES];

static int message_of(int status) {
  return status >> 8 & (MESSAGES - 1);
}

static bool is_known(int status) {
  return status >= 0 && (message_of(status) == 0 || noted[message_of(status)]);
}

void nmpi_error_note(int status) {
  noted[message_of(status)] = true;
}
#endif

const char *nmpi_error_string(int status) {
  texts *t = texts_mine();
  size_t room = sizeof t->mpi_error;
  int length = 0;
  if (!is_live()) {
    snprintf(t->mpi_error, room, "status %d (MPI is finalised)", status);
  } else if (!is_known(status) || MPI_Error_string(status, t->mpi_error, &length) != MPI_SUCCESS) {
    snprintf(t->mpi_error, room, "%d is not an error code of this MPI", status);
  }
  return t->mpi_error;
}

int nmpi_error_class(int status) {
  int class = status == MPI_SUCCESS ? MPI_SUCCESS : MPI_ERR_UNKNOWN;
  if (status > 0 && is_live()) MPI_Error_class(status, &class);
  return class;
}

/* clang-format off */
#define ERROR_CLASSES(X)                                                                           \
  X(ERR_BUFFER) X(ERR_COUNT) X(ERR_TYPE) X(ERR_TAG) X(ERR_COMM) X(ERR_RANK) X(ERR_REQUEST)         \
  X(ERR_ROOT) X(ERR_GROUP) X(ERR_OP) X(ERR_TOPOLOGY) X(ERR_DIMS) X(ERR_ARG) X(ERR_UNKNOWN)         \
  X(ERR_TRUNCATE) X(ERR_OTHER) X(ERR_INTERN) X(ERR_IN_STATUS) X(ERR_PENDING) X(ERR_KEYVAL)         \
  X(ERR_NO_MEM) X(ERR_BASE) X(ERR_INFO_KEY) X(ERR_INFO_VALUE) X(ERR_INFO_NOKEY) X(ERR_SPAWN)       \
  X(ERR_PORT) X(ERR_SERVICE) X(ERR_NAME) X(ERR_WIN) X(ERR_SIZE) X(ERR_DISP) X(ERR_INFO)            \
  X(ERR_LOCKTYPE) X(ERR_ASSERT) X(ERR_RMA_CONFLICT) X(ERR_RMA_SYNC) X(ERR_RMA_RANGE)               \
  X(ERR_RMA_ATTACH) X(ERR_RMA_SHARED) X(ERR_RMA_FLAVOR) X(ERR_FILE) X(ERR_NOT_SAME) X(ERR_AMODE)   \
  X(ERR_UNSUPPORTED_DATAREP) X(ERR_UNSUPPORTED_OPERATION) X(ERR_NO_SUCH_FILE) X(ERR_FILE_EXISTS)   \
  X(ERR_BAD_FILE) X(ERR_ACCESS) X(ERR_NO_SPACE) X(ERR_QUOTA) X(ERR_READ_ONLY) X(ERR_FILE_IN_USE)   \
  X(ERR_DUP_DATAREP) X(ERR_CONVERSION) X(ERR_IO) X(ERR_LASTCODE)
/* clang-format on */

static const struct {
  const char *name;
  int value;
} error_classes[] = {
#define ROW(name) {#name, MPI_##name},
    ERROR_CLASSES(ROW)
#undef ROW
};

enum { ERROR_CLASS_COUNT = sizeof error_classes / sizeof error_classes[0] };

const char *nmpi_error_class_name(int position) {
  if (position < 0 || position >= ERROR_CLASS_COUNT) return NULL;
  return error_classes[position].name;
}

int nmpi_error_class_value(int position) {
  if (position < 0 || position >= ERROR_CLASS_COUNT) return MPI_ERR_UNKNOWN;
  return error_classes[position].value;
}
