"""The Slicer side of SRGAN3D: panel, logic, worker process, MRML. Never torch; of SRGAN3DLib the contract only."""
