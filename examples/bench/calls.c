/* SPDX-License-Identifier: MIT */
/* The loops of calls.lua in C: the same arguments, and what a program in C would write for each call of the script's,
 * which is one call for all of MPI's routines. */
#include <mpi.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SELF MPI_COMM_SELF
#define ONE 1, MPI_DOUBLE

enum { TAG = 1, SIDE = 32, LENGTH = 1024 };

static double x, y, sum;
static char buffer[1 << 16];
static char text[MPI_MAX_ERROR_STRING];
static MPI_Request requests[2];
static MPI_Status statuses[2];
/* A variable, for GCC takes the constant of MPICH for an array that is too small. */
MPI_Status *ignored = MPI_STATUSES_IGNORE;
static MPI_Message matched;
static int flag, position, positions[2];

/* ---- environment and errors ---- */

void bench_initialized(int n) {
  for (int i = 0; i < n; i++) MPI_Initialized(&flag);
}

void bench_finalized(int n) {
  for (int i = 0; i < n; i++) MPI_Finalized(&flag);
}

void bench_query_thread(int n) {
  for (int i = 0; i < n; i++) MPI_Query_thread(&flag);
}

void bench_wtime(int n) {
  for (int i = 0; i < n; i++) sum += MPI_Wtime();
}

void bench_wtick(int n) {
  for (int i = 0; i < n; i++) sum += MPI_Wtick();
}

void bench_error_string(int n) {
  for (int i = 0; i < n; i++) MPI_Error_string(MPI_ERR_TRUNCATE, text, &flag);
}

void bench_error_class(int n) {
  for (int i = 0; i < n; i++) MPI_Error_class(MPI_ERR_TRUNCATE, &flag);
}

/* ---- communicators and groups ---- */

void bench_rank(int n) {
  for (int i = 0; i < n; i++) MPI_Comm_rank(SELF, &flag);
}

void bench_size(int n) {
  for (int i = 0; i < n; i++) MPI_Comm_size(SELF, &flag);
}

void bench_comm_compare(int n) {
  for (int i = 0; i < n; i++) MPI_Comm_compare(SELF, MPI_COMM_WORLD, &flag);
}

void bench_comm_name(int n) {
  for (int i = 0; i < n; i++) MPI_Comm_get_name(SELF, text, &flag);
}

void bench_comm_set_name(int n) {
  MPI_Comm made;
  MPI_Comm_dup(SELF, &made);
  for (int i = 0; i < n; i++) MPI_Comm_set_name(made, "bench");
  MPI_Comm_free(&made);
}

void bench_comm_dup_free(int n) {
  for (int i = 0; i < n; i++) {
    MPI_Comm made;
    MPI_Comm_dup(SELF, &made);
    MPI_Comm_free(&made);
  }
}

void bench_comm_split_free(int n) {
  for (int i = 0; i < n; i++) {
    MPI_Comm made;
    MPI_Comm_split(SELF, 0, 0, &made);
    MPI_Comm_free(&made);
  }
}

void bench_comm_split_type_free(int n) {
  for (int i = 0; i < n; i++) {
    MPI_Comm made;
    MPI_Comm_split_type(SELF, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &made);
    MPI_Comm_free(&made);
  }
}

void bench_comm_create_free(int n) {
  MPI_Group group;
  MPI_Comm_group(SELF, &group);
  for (int i = 0; i < n; i++) {
    MPI_Comm made;
    MPI_Comm_create(SELF, group, &made);
    MPI_Comm_free(&made);
  }
  MPI_Group_free(&group);
}

void bench_comm_create_group_free(int n) {
  MPI_Group group;
  MPI_Comm_group(SELF, &group);
  for (int i = 0; i < n; i++) {
    MPI_Comm made;
    MPI_Comm_create_group(SELF, group, 0, &made);
    MPI_Comm_free(&made);
  }
  MPI_Group_free(&group);
}

void bench_comm_group_free(int n) {
  for (int i = 0; i < n; i++) {
    MPI_Group group;
    MPI_Comm_group(SELF, &group);
    MPI_Group_free(&group);
  }
}

void bench_group_rank(int n) {
  MPI_Group group;
  MPI_Comm_group(SELF, &group);
  for (int i = 0; i < n; i++) MPI_Group_rank(group, &flag);
  MPI_Group_free(&group);
}

void bench_group_size(int n) {
  MPI_Group group;
  MPI_Comm_group(SELF, &group);
  for (int i = 0; i < n; i++) MPI_Group_size(group, &flag);
  MPI_Group_free(&group);
}

void bench_group_incl_free(int n) {
  MPI_Group group;
  MPI_Comm_group(SELF, &group);
  for (int i = 0; i < n; i++) {
    MPI_Group made;
    MPI_Group_incl(group, 1, (int[]){0}, &made);
    MPI_Group_free(&made);
  }
  MPI_Group_free(&group);
}

/* What is made is MPI_GROUP_EMPTY, which need not be freed. */
void bench_group_excl_free(int n) {
  MPI_Group group;
  MPI_Comm_group(SELF, &group);
  for (int i = 0; i < n; i++) {
    MPI_Group made;
    MPI_Group_excl(group, 1, (int[]){0}, &made);
  }
  MPI_Group_free(&group);
}

void bench_group_union_free(int n) {
  MPI_Group group;
  MPI_Comm_group(SELF, &group);
  for (int i = 0; i < n; i++) {
    MPI_Group made;
    MPI_Group_union(group, group, &made);
    MPI_Group_free(&made);
  }
  MPI_Group_free(&group);
}

void bench_group_intersection_free(int n) {
  MPI_Group group;
  MPI_Comm_group(SELF, &group);
  for (int i = 0; i < n; i++) {
    MPI_Group made;
    MPI_Group_intersection(group, group, &made);
    MPI_Group_free(&made);
  }
  MPI_Group_free(&group);
}

/* As bench_group_excl_free. */
void bench_group_difference_free(int n) {
  MPI_Group group;
  MPI_Comm_group(SELF, &group);
  for (int i = 0; i < n; i++) {
    MPI_Group made;
    MPI_Group_difference(group, group, &made);
  }
  MPI_Group_free(&group);
}

void bench_group_translate_ranks(int n) {
  MPI_Group group;
  MPI_Comm_group(SELF, &group);
  for (int i = 0; i < n; i++) MPI_Group_translate_ranks(group, 1, (int[]){0}, group, &flag);
  MPI_Group_free(&group);
}

void bench_group_compare(int n) {
  MPI_Group group;
  MPI_Comm_group(SELF, &group);
  for (int i = 0; i < n; i++) MPI_Group_compare(group, group, &flag);
  MPI_Group_free(&group);
}

/* ---- point to point ---- */

void bench_send_to_nobody(int n) {
  for (int i = 0; i < n; i++) MPI_Send(&x, ONE, MPI_PROC_NULL, TAG, SELF);
}

void bench_recv_from_nobody(int n) {
  for (int i = 0; i < n; i++) MPI_Recv(&y, ONE, MPI_PROC_NULL, TAG, SELF, MPI_STATUS_IGNORE);
}

static void send_by(int (*send)(const void *, int, MPI_Datatype, int, int, MPI_Comm), int n) {
  for (int i = 0; i < n; i++) {
    MPI_Irecv(&y, ONE, 0, TAG, SELF, requests);
    send(&x, ONE, 0, TAG, SELF);
    MPI_Wait(requests, MPI_STATUS_IGNORE);
  }
}

void bench_irecv_send_wait(int n) {
  send_by(MPI_Send, n);
}

void bench_irecv_ssend_wait(int n) {
  send_by(MPI_Ssend, n);
}

void bench_irecv_rsend_wait(int n) {
  send_by(MPI_Rsend, n);
}

void bench_irecv_bsend_wait(int n) {
  void *detached;
  int size;
  MPI_Buffer_attach(buffer, sizeof buffer);
  send_by(MPI_Bsend, n);
  MPI_Buffer_detach((void *)&detached, &size);
}

void bench_buffer_attach_buffer_detach(int n) {
  void *detached;
  int size;
  for (int i = 0; i < n; i++) {
    void *memory = malloc(1024);
    MPI_Buffer_attach(memory, 1024);
    MPI_Buffer_detach((void *)&detached, &size);
    free(memory);
  }
}

void bench_isend_recv_wait(int n) {
  for (int i = 0; i < n; i++) {
    MPI_Isend(&x, ONE, 0, TAG, SELF, requests);
    MPI_Recv(&y, ONE, 0, TAG, SELF, MPI_STATUS_IGNORE);
    MPI_Wait(requests, MPI_STATUS_IGNORE);
  }
}

void bench_isend_recv_count_wait(int n) {
  for (int i = 0; i < n; i++) {
    MPI_Isend(&x, ONE, 0, TAG, SELF, requests);
    MPI_Recv(&y, ONE, 0, TAG, SELF, statuses);
    MPI_Get_count(statuses, MPI_DOUBLE, &flag);
    MPI_Wait(requests, MPI_STATUS_IGNORE);
  }
}

void bench_sendrecv(int n) {
  for (int i = 0; i < n; i++) {
    MPI_Sendrecv(&x, ONE, 0, TAG, &y, ONE, 0, TAG, SELF, MPI_STATUS_IGNORE);
  }
}

void bench_sendrecv_replace(int n) {
  for (int i = 0; i < n; i++) {
    MPI_Sendrecv_replace(&x, ONE, 0, TAG, 0, TAG, SELF, MPI_STATUS_IGNORE);
  }
}

void bench_isend_probe_recv_wait(int n) {
  for (int i = 0; i < n; i++) {
    MPI_Isend(&x, ONE, 0, TAG, SELF, requests);
    MPI_Probe(0, TAG, SELF, MPI_STATUS_IGNORE);
    MPI_Recv(&y, ONE, 0, TAG, SELF, MPI_STATUS_IGNORE);
    MPI_Wait(requests, MPI_STATUS_IGNORE);
  }
}

void bench_iprobe(int n) {
  for (int i = 0; i < n; i++) MPI_Iprobe(0, TAG, SELF, &flag, MPI_STATUS_IGNORE);
}

void bench_improbe(int n) {
  for (int i = 0; i < n; i++) MPI_Improbe(0, TAG, SELF, &flag, &matched, MPI_STATUS_IGNORE);
}

void bench_isend_mprobe_mrecv_wait(int n) {
  for (int i = 0; i < n; i++) {
    MPI_Isend(&x, ONE, 0, TAG, SELF, requests);
    MPI_Mprobe(0, TAG, SELF, &matched, MPI_STATUS_IGNORE);
    MPI_Mrecv(&y, ONE, &matched, MPI_STATUS_IGNORE);
    MPI_Wait(requests, MPI_STATUS_IGNORE);
  }
}

void bench_isend_improbe_imrecv_2_wait(int n) {
  for (int i = 0; i < n; i++) {
    MPI_Isend(&x, ONE, 0, TAG, SELF, requests);
    MPI_Improbe(0, TAG, SELF, &flag, &matched, MPI_STATUS_IGNORE);
    MPI_Imrecv(&y, ONE, &matched, requests + 1);
    MPI_Wait(requests + 1, MPI_STATUS_IGNORE);
    MPI_Wait(requests, MPI_STATUS_IGNORE);
  }
}

void bench_status_count(int n) {
  MPI_Sendrecv(&x, ONE, 0, TAG, &y, ONE, 0, TAG, SELF, statuses);
  for (int i = 0; i < n; i++) MPI_Get_count(statuses, MPI_DOUBLE, &flag);
}

/* ---- nonblocking ---- */

static void
isend_by(int (*isend)(const void *, int, MPI_Datatype, int, int, MPI_Comm, MPI_Request *), int n) {
  for (int i = 0; i < n; i++) {
    MPI_Irecv(&y, ONE, 0, TAG, SELF, requests);
    isend(&x, ONE, 0, TAG, SELF, requests + 1);
    MPI_Wait(requests, MPI_STATUS_IGNORE);
    MPI_Wait(requests + 1, MPI_STATUS_IGNORE);
  }
}

void bench_irecv_isend_2_wait(int n) {
  isend_by(MPI_Isend, n);
}

void bench_irecv_issend_2_wait(int n) {
  isend_by(MPI_Issend, n);
}

void bench_irecv_irsend_2_wait(int n) {
  isend_by(MPI_Irsend, n);
}

void bench_irecv_ibsend_2_wait(int n) {
  void *detached;
  int size;
  MPI_Buffer_attach(buffer, sizeof buffer);
  isend_by(MPI_Ibsend, n);
  MPI_Buffer_detach((void *)&detached, &size);
}

void bench_isend_to_nobody_wait(int n) {
  for (int i = 0; i < n; i++) {
    MPI_Isend(&x, ONE, MPI_PROC_NULL, TAG, SELF, requests);
    MPI_Wait(requests, MPI_STATUS_IGNORE);
  }
}

void bench_wait_for_null(int n) {
  requests[0] = MPI_REQUEST_NULL;
  for (int i = 0; i < n; i++) MPI_Wait(requests, MPI_STATUS_IGNORE);
}

void bench_irecv_isend_2_test_2_wait(int n) {
  for (int i = 0; i < n; i++) {
    MPI_Irecv(&y, ONE, 0, TAG, SELF, requests);
    MPI_Isend(&x, ONE, 0, TAG, SELF, requests + 1);
    MPI_Test(requests, &flag, MPI_STATUS_IGNORE);
    MPI_Test(requests + 1, &flag, MPI_STATUS_IGNORE);
    MPI_Wait(requests, MPI_STATUS_IGNORE);
    MPI_Wait(requests + 1, MPI_STATUS_IGNORE);
  }
}

void bench_test(int n) {
  MPI_Irecv(&y, ONE, 0, TAG, SELF, requests);
  for (int i = 0; i < n; i++) MPI_Test(requests, &flag, MPI_STATUS_IGNORE);
  MPI_Send(&x, ONE, 0, TAG, SELF);
  MPI_Wait(requests, MPI_STATUS_IGNORE);
}

void bench_irecv_cancel_wait(int n) {
  for (int i = 0; i < n; i++) {
    MPI_Irecv(&y, ONE, 0, TAG, SELF, requests);
    MPI_Cancel(requests);
    MPI_Wait(requests, statuses);
  }
}

static void exchange(void) {
  MPI_Irecv(&y, ONE, 0, TAG, SELF, requests);
  MPI_Isend(&x, ONE, 0, TAG, SELF, requests + 1);
}

void bench_irecv_isend_waitall(int n) {
  for (int i = 0; i < n; i++) {
    exchange();
    MPI_Waitall(2, requests, ignored);
  }
}

void bench_irecv_isend_testall_waitall(int n) {
  for (int i = 0; i < n; i++) {
    exchange();
    MPI_Testall(2, requests, &flag, ignored);
    MPI_Waitall(2, requests, ignored);
  }
}

void bench_irecv_isend_waitany_waitall(int n) {
  for (int i = 0; i < n; i++) {
    exchange();
    MPI_Waitany(2, requests, &position, MPI_STATUS_IGNORE);
    MPI_Waitall(2, requests, ignored);
  }
}

void bench_irecv_isend_testany_waitall(int n) {
  for (int i = 0; i < n; i++) {
    exchange();
    MPI_Testany(2, requests, &position, &flag, MPI_STATUS_IGNORE);
    MPI_Waitall(2, requests, ignored);
  }
}

void bench_irecv_isend_waitsome_waitall(int n) {
  for (int i = 0; i < n; i++) {
    exchange();
    MPI_Waitsome(2, requests, &position, positions, ignored);
    MPI_Waitall(2, requests, ignored);
  }
}

void bench_irecv_isend_testsome_waitall(int n) {
  for (int i = 0; i < n; i++) {
    exchange();
    MPI_Testsome(2, requests, &position, positions, ignored);
    MPI_Waitall(2, requests, ignored);
  }
}

/* ---- persistent ---- */

static void init_exchange(void) {
  MPI_Recv_init(&y, ONE, 0, TAG, SELF, requests);
  MPI_Send_init(&x, ONE, 0, TAG, SELF, requests + 1);
}

static void free_exchange(void) {
  MPI_Request_free(requests);
  MPI_Request_free(requests + 1);
}

void bench_send_init_request_free(int n) {
  for (int i = 0; i < n; i++) {
    MPI_Send_init(&x, ONE, 0, TAG, SELF, requests);
    MPI_Request_free(requests);
  }
}

void bench_recv_init_request_free(int n) {
  for (int i = 0; i < n; i++) {
    MPI_Recv_init(&x, ONE, 0, TAG, SELF, requests);
    MPI_Request_free(requests);
  }
}

void bench_2_start_2_wait(int n) {
  init_exchange();
  for (int i = 0; i < n; i++) {
    MPI_Start(requests);
    MPI_Start(requests + 1);
    MPI_Wait(requests, MPI_STATUS_IGNORE);
    MPI_Wait(requests + 1, MPI_STATUS_IGNORE);
  }
  free_exchange();
}

void bench_startall_waitall(int n) {
  init_exchange();
  for (int i = 0; i < n; i++) {
    MPI_Startall(2, requests);
    MPI_Waitall(2, requests, ignored);
  }
  free_exchange();
}

/* ---- collectives ---- */

void bench_barrier(int n) {
  for (int i = 0; i < n; i++) MPI_Barrier(SELF);
}

void bench_bcast(int n) {
  for (int i = 0; i < n; i++) MPI_Bcast(&x, ONE, 0, SELF);
}

void bench_scatter(int n) {
  for (int i = 0; i < n; i++) MPI_Scatter(&x, ONE, &y, ONE, 0, SELF);
}

void bench_gather(int n) {
  for (int i = 0; i < n; i++) MPI_Gather(&x, ONE, &y, ONE, 0, SELF);
}

void bench_allgather(int n) {
  for (int i = 0; i < n; i++) MPI_Allgather(&x, ONE, &y, ONE, SELF);
}

void bench_scatter_in_place(int n) {
  for (int i = 0; i < n; i++) MPI_Scatter(&x, ONE, MPI_IN_PLACE, ONE, 0, SELF);
}

void bench_gather_in_place(int n) {
  for (int i = 0; i < n; i++) MPI_Gather(MPI_IN_PLACE, ONE, &y, ONE, 0, SELF);
}

void bench_allgather_in_place(int n) {
  for (int i = 0; i < n; i++) MPI_Allgather(MPI_IN_PLACE, ONE, &y, ONE, SELF);
}

void bench_reduce(int n) {
  for (int i = 0; i < n; i++) MPI_Reduce(&x, &y, ONE, MPI_SUM, 0, SELF);
}

void bench_allreduce(int n) {
  for (int i = 0; i < n; i++) MPI_Allreduce(&x, &y, ONE, MPI_SUM, SELF);
}

void bench_allreduce_in_place(int n) {
  for (int i = 0; i < n; i++) MPI_Allreduce(MPI_IN_PLACE, &y, ONE, MPI_MAX, SELF);
}

void bench_allreduce_of_a_number(int n) {
  double total = 0;
  for (int i = 0; i < n; i++) {
    double mine = i;
    MPI_Allreduce(&mine, &total, ONE, MPI_SUM, SELF);
    sum += total;
  }
}

void bench_reduce_in_place(int n) {
  for (int i = 0; i < n; i++) MPI_Reduce(MPI_IN_PLACE, &y, ONE, MPI_SUM, 0, SELF);
}

void bench_ireduce_wait(int n) {
  for (int i = 0; i < n; i++) {
    MPI_Ireduce(&x, &y, ONE, MPI_SUM, 0, SELF, &requests[0]);
    MPI_Wait(&requests[0], MPI_STATUS_IGNORE);
  }
}

void bench_iallreduce_wait(int n) {
  for (int i = 0; i < n; i++) {
    MPI_Iallreduce(&x, &y, ONE, MPI_SUM, SELF, &requests[0]);
    MPI_Wait(&requests[0], MPI_STATUS_IGNORE);
  }
}

/* ---- operators ---- */

static void add(void *in, void *inout, int *count, MPI_Datatype *type) {
  (void)type;
  for (int i = 0; i < *count; i++) ((double *)inout)[i] += ((double *)in)[i];
}

void bench_op_free(int n) {
  for (int i = 0; i < n; i++) {
    MPI_Op made;
    MPI_Op_create(add, 1, &made);
    MPI_Op_free(&made);
  }
}

/* ---- grids of processes ---- */

static MPI_Comm grid = MPI_COMM_NULL;

static MPI_Comm made_grid(void) {
  MPI_Comm made;
  MPI_Cart_create(SELF, 2, (int[]){1, 1}, (int[]){1, 1}, 0, &made);
  return made;
}

/* Made once, as the script's. */
static MPI_Comm kept_grid(void) {
  if (grid == MPI_COMM_NULL) grid = made_grid();
  return grid;
}

void bench_dims_create(int n) {
  for (int i = 0; i < n; i++) {
    int dims[] = {0, 0};
    MPI_Dims_create(12, 2, dims);
    sum += dims[0];
  }
}

void bench_cart_create_free(int n) {
  for (int i = 0; i < n; i++) {
    MPI_Comm made = made_grid();
    MPI_Comm_free(&made);
  }
}

void bench_cart_sub_free(int n) {
  MPI_Comm whole = kept_grid();
  for (int i = 0; i < n; i++) {
    MPI_Comm made;
    MPI_Cart_sub(whole, (int[]){0, 1}, &made);
    MPI_Comm_free(&made);
  }
}

void bench_cart_get(int n) {
  MPI_Comm whole = kept_grid();
  int dims[2], periods[2], coords[2];
  for (int i = 0; i < n; i++) MPI_Cart_get(whole, 2, dims, periods, coords);
}

void bench_cart_coords(int n) {
  MPI_Comm whole = kept_grid();
  int coords[2];
  for (int i = 0; i < n; i++) MPI_Cart_coords(whole, 0, 2, coords);
}

void bench_cart_rank(int n) {
  MPI_Comm whole = kept_grid();
  for (int i = 0; i < n; i++) MPI_Cart_rank(whole, (int[]){0, 0}, &flag);
}

void bench_cart_shift(int n) {
  MPI_Comm whole = kept_grid();
  for (int i = 0; i < n; i++) MPI_Cart_shift(whole, 0, 1, &flag, &position);
}

/* ---- halos and whole fields ---- */

static double field[SIDE + 2][SIDE + 2], square[SIDE][SIDE];

static MPI_Datatype side;
static int up, down, left, right;

static MPI_Comm open_halo(void) {
  MPI_Comm whole = kept_grid();
  MPI_Cart_shift(whole, 0, 1, &up, &down);
  MPI_Cart_shift(whole, 1, 1, &left, &right);
  MPI_Type_vector(SIDE, 1, SIDE + 2, MPI_DOUBLE, &side);
  MPI_Type_commit(&side);
  return whole;
}

#define ROW SIDE, MPI_DOUBLE
#define COLUMN 1, side

void bench_halo_exchange(int n) {
  MPI_Comm all = open_halo();
  MPI_Status *none = MPI_STATUS_IGNORE;
  for (int i = 0; i < n; i++) {
    MPI_Sendrecv(&field[1][1], ROW, up, 0, &field[SIDE + 1][1], ROW, down, 0, all, none);
    MPI_Sendrecv(&field[SIDE][1], ROW, down, 1, &field[0][1], ROW, up, 1, all, none);
    MPI_Sendrecv(&field[1][1], COLUMN, left, 2, &field[1][SIDE + 1], COLUMN, right, 2, all, none);
    MPI_Sendrecv(&field[1][SIDE], COLUMN, right, 3, &field[1][0], COLUMN, left, 3, all, none);
  }
  MPI_Type_free(&side);
}

void bench_halo_start_halo_finish(int n) {
  MPI_Comm all = open_halo();
  MPI_Request r[8];
  for (int i = 0; i < n; i++) {
    MPI_Irecv(&field[SIDE + 1][1], ROW, down, 0, all, &r[0]);
    MPI_Irecv(&field[0][1], ROW, up, 1, all, &r[1]);
    MPI_Irecv(&field[1][SIDE + 1], COLUMN, right, 2, all, &r[2]);
    MPI_Irecv(&field[1][0], COLUMN, left, 3, all, &r[3]);
    MPI_Isend(&field[1][1], ROW, up, 0, all, &r[4]);
    MPI_Isend(&field[SIDE][1], ROW, down, 1, all, &r[5]);
    MPI_Isend(&field[1][1], COLUMN, left, 2, all, &r[6]);
    MPI_Isend(&field[1][SIDE], COLUMN, right, 3, all, &r[7]);
    MPI_Waitall(8, r, ignored);
  }
  MPI_Type_free(&side);
}

/* What is at an address is used, as far as the compiler knows: it must be there, each time. */
static inline void use(void *address) {
  __asm__ volatile("" : : "r"(address) : "memory");
}

void bench_domain_scatter_field(int n) {
  for (int i = 0; i < n; i++) {
    for (int row = 0; row < SIDE; row++)
      memcpy(&field[row + 1][1], square[row], sizeof square[row]);
    use(field);
  }
}

void bench_domain_gather_field(int n) {
  for (int i = 0; i < n; i++) {
    for (int row = 0; row < SIDE; row++)
      memcpy(square[row], &field[row + 1][1], sizeof square[row]);
    use(square);
  }
}

/* ---- arrays ---- */

static double line[LENGTH], other_line[LENGTH], other_square[SIDE][SIDE];

void bench_zeros_free(int n) {
  for (int i = 0; i < n; i++) {
    void *made = calloc(LENGTH, sizeof(double));
    use(made);
    free(made);
  }
}

void bench_empty_free(int n) {
  for (int i = 0; i < n; i++) {
    void *made = malloc(LENGTH * sizeof(double));
    use(made);
    free(made);
  }
}

void bench_array_read(int n) {
  double total = 0;
  for (int i = 0; i < n; i++) total += line[i % LENGTH];
  sum += total;
}

void bench_array_write(int n) {
  for (int i = 0; i < n; i++) line[i % LENGTH] = i;
}

void bench_array_get(int n) {
  double total = 0;
  for (int i = 0; i < n; i++) total += square[i % SIDE][1];
  sum += total;
}

void bench_array_set(int n) {
  for (int i = 0; i < n; i++) square[i % SIDE][1] = i;
}

void bench_array_fill(int n) {
  for (int i = 0; i < n; i++) {
    for (int k = 0; k < LENGTH; k++) line[k] = i;
    use(line);
  }
}

void bench_array_assign(int n) {
  for (int i = 0; i < n; i++) {
    memcpy(other_line, line, sizeof line);
    use(other_line);
  }
}

void bench_array_assign_of_a_transposed_view(int n) {
  for (int i = 0; i < n; i++) {
    for (int row = 0; row < SIDE; row++) {
      for (int column = 0; column < SIDE; column++) other_square[row][column] = square[column][row];
    }
    use(other_square);
  }
}

void bench_array_copy_free(int n) {
  for (int i = 0; i < n; i++) {
    void *made = malloc(sizeof line);
    memcpy(made, line, sizeof line);
    use(made);
    free(made);
  }
}

/* ---- threads ---- */

static int64_t counter;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void *nothing(void *unused) {
  return unused;
}

void bench_thread_parallel(int n) {
  for (int i = 0; i < n; i++) {
    pthread_t thread;
    pthread_create(&thread, NULL, nothing, NULL);
    pthread_join(thread, NULL);
  }
}

void bench_thread_fetch_add(int n) {
  for (int i = 0; i < n; i++) __atomic_fetch_add(&counter, 1, __ATOMIC_SEQ_CST);
}

void bench_team_lock_team_unlock(int n) {
  for (int i = 0; i < n; i++) {
    pthread_mutex_lock(&mutex);
    pthread_mutex_unlock(&mutex);
  }
}

void bench_a_piece_of_team_chunks(int n) {
  int64_t from;
  double total = 0;
  counter = 0;
  while ((from = __atomic_fetch_add(&counter, 1, __ATOMIC_SEQ_CST)) < n) total += (double)from;
  sum = total;
}

/* ---- files ---- */

enum { HEADER = 128 };

static char path[FILENAME_MAX];

void bench_npy_path(const char *given) {
  snprintf(path, sizeof path, "%s", given);
}

void bench_npy_write(int n) {
  for (int i = 0; i < n; i++) {
    FILE *header = fopen(path, "wb");
    fwrite("\x93NUMPY\1\0\x76\0", 1, 10, header);
    fprintf(header, "%-*s\n", HEADER - 11,
            "{'descr': '<f8', 'fortran_order': False, 'shape': (1024,), }");
    fclose(header);
    MPI_File file;
    MPI_File_open(SELF, path, MPI_MODE_WRONLY, MPI_INFO_NULL, &file);
    MPI_File_set_view(file, HEADER, MPI_BYTE, MPI_BYTE, "native", MPI_INFO_NULL);
    MPI_File_write_all(file, line, sizeof line, MPI_BYTE, MPI_STATUS_IGNORE);
    MPI_File_sync(file);
    MPI_File_close(&file);
  }
}

void bench_npy_read(int n) {
  char start[HEADER];
  for (int i = 0; i < n; i++) {
    FILE *header = fopen(path, "rb");
    sum += (double)fread(start, 1, HEADER, header);
    fclose(header);
    MPI_File file;
    MPI_File_open(SELF, path, MPI_MODE_RDONLY, MPI_INFO_NULL, &file);
    MPI_File_set_view(file, HEADER, MPI_BYTE, MPI_BYTE, "native", MPI_INFO_NULL);
    MPI_File_read_all(file, line, sizeof line, MPI_BYTE, MPI_STATUS_IGNORE);
    MPI_File_close(&file);
  }
}
