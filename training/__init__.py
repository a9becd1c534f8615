from training.startup import begin

begin()
