-- SPDX-License-Identifier: MIT
-- What started this process, as its environment tells: before MPI is initialised nothing else does.

local getenv = os.getenv

-- By the variables they set, most telling first. Those without an ABI start programs of any.
local LAUNCHERS = {
  { name = "Open MPI's mpiexec", abi = "openmpi", size = "OMPI_COMM_WORLD_SIZE", rank = "OMPI_COMM_WORLD_RANK" },
  { name = "Intel MPI's mpiexec", abi = "mpich", mark = "I_MPI_HYDRA_TOPOLIB", size = "PMI_SIZE", rank = "PMI_RANK" },
  { name = "MPICH's mpiexec", abi = "mpich", mark = "MPI_LOCALNRANKS", size = "PMI_SIZE", rank = "PMI_RANK" },
  { name = "Slurm's srun", size = "SLURM_STEP_NUM_TASKS", rank = "SLURM_PROCID" },
  { name = "a PMI launcher", abi = "mpich", size = "PMI_SIZE", rank = "PMI_RANK" },
  { name = "a PMIx launcher", mark = "PMIX_RANK", rank = "PMIX_RANK" },
}

local function number(variable)
  local value = variable and getenv(variable)
  return value and tonumber(value)
end

for _, launcher in ipairs(LAUNCHERS) do
  if getenv(launcher.mark or launcher.size) then
    return {
      name = launcher.name,
      abi = launcher.abi, -- nil: any
      size = number(launcher.size),
      rank = number(launcher.rank),
    }
  end
end

return { name = "none" }
