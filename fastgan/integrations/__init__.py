"""Other people's code bases on fastgan: one package for each family."""
